"""For authors of mappers, sinks, stores and simulators."""
