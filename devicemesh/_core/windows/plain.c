#include "plain.h"

#include "gap.h"
#include "watch.h"

#include <float.h>

bool take_loud(struct engine *engine, const struct group *group, uint32_t series, uint32_t position, int64_t time,
               double x)
{
    struct line *line = &engine->lines[series];
    const struct pane *pane = group->pane;
    const struct view view = {.cells = pane->cells,
                              .touched = pane->touched,
                              .start = pane->start,
                              .length = (double)(pane->end - pane->start)};
    bool known = line->state & LINE_KNOWN;
    if (!(fabs(x) <= DBL_MAX))
        return false;
    if (known)
        put_value(&view, line, position, plain_row(&view, time, x), mirrored(x));
    else if (!gap_end(line, pane, position, time, x))
        return false;
    if (pane->sketches)
        take_quantile(engine, line, &pane->sketches[position], x, NULL);
    if (known || !watch_resume(engine, line, time, x))
        watch_row(engine, series, time, x);
    return true;
}
