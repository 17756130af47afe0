"""For authors of mappers, sinks, stores and simulators."""

import sys

if "pytest" in sys.modules:  # a failing suite of ours says what it compared, as an author's own tests do
    for _module in ("contract", "polls", "docs", "store"):
        sys.modules["pytest"].register_assert_rewrite(f"{__name__}.{_module}")
