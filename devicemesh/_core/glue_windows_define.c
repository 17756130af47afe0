/* WindowEngine: profiles and series, and what the engine refuses as Python exceptions. */
#include "glue_windows_define.h"

#include "glue_columns.h"

PyObject *windows_refuse(enum engine_status status, const char *what, unsigned long long number)
{
    switch (status) {
    case ENGINE_NO_MEMORY:
        PyErr_SetString(PyExc_MemoryError, "max_bytes is reached");
        break;
    case ENGINE_NOT_DEFINED:
        PyErr_Format(PyExc_ValueError, "series: %s %llu is not defined", what, number);
        break;
    case ENGINE_TIME:
        PyErr_Format(PyExc_ValueError, "time_ns: that of %s %llu is negative or beyond 2^62", what, number);
        break;
    case ENGINE_DEFINED_ALREADY:
        PyErr_SetString(PyExc_ValueError, "series: defined already");
        break;
    case ENGINE_RELATIVE_ERROR:
        PyErr_SetString(PyExc_ValueError, "relative_error or max_bins is out of range");
        break;
    case ENGINE_NO_PROFILE:
        PyErr_SetString(PyExc_ValueError, "profile: there is none of this number");
        break;
    default:
        PyErr_Format(PyExc_ValueError, "%s: too many", what);
    }
    return NULL;
}

static int parse_alarms(PyObject *alarms, struct profile *profile)
{
    Py_ssize_t count = PyTuple_Size(alarms);
    if (count < 0 || count > ALARMS_MAX) {
        PyErr_Format(PyExc_ValueError, "alarms: more than %d", ALARMS_MAX);
        return -1;
    }
    profile->alarms_count = (uint32_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        struct alarm *alarm = &profile->alarms[i];
        int above;
        long long delay;
        PyObject *item = PyTuple_GetItem(alarms, i);
        if (!item || !PyArg_ParseTuple(item, "pddL", &above, &alarm->limit, &alarm->clear, &delay))
            return -1;
        alarm->above = above != 0;
        alarm->delay_ns = delay;
    }
    return 0;
}

static int parse_quantiles(PyObject *quantiles, struct profile *profile)
{
    Py_ssize_t count = PyTuple_Size(quantiles);
    if (count < 0 || count > QUANTILES_MAX) {
        PyErr_Format(PyExc_ValueError, "quantiles: more than %d", QUANTILES_MAX);
        return -1;
    }
    profile->quantiles_count = (uint32_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        profile->quantiles[i] = PyFloat_AsDouble(PyTuple_GetItem(quantiles, i));
        if (PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* The face has looked at the values' ranges. */
PyObject *glue_windows_profile(PyObject *object, PyObject *args)
{
    Windows *self = (Windows *)object;
    struct profile profile = {0};
    unsigned long long statistics;
    int sloped, uncertain_as_bad, reports;
    long long min_interval, heartbeat, missing;
    unsigned max_bins;
    PyObject *alarms, *quantiles;
    if (!PyArg_ParseTuple(args, "KpppddLLLddO!O!dI", &statistics, &sloped, &uncertain_as_bad, &reports,
                          &profile.deadband, &profile.fraction, &min_interval, &heartbeat, &missing,
                          &profile.percent_good, &profile.percent_bad, &PyTuple_Type, &alarms, &PyTuple_Type,
                          &quantiles, &profile.relative_error, &max_bins))
        return NULL;
    if (parse_alarms(alarms, &profile) || parse_quantiles(quantiles, &profile))
        return NULL;
    profile.statistics = statistics;
    profile.sloped = sloped != 0;
    profile.uncertain_as_bad = uncertain_as_bad != 0;
    profile.reports = reports != 0;
    profile.min_interval_ns = min_interval;
    profile.heartbeat_ns = heartbeat;
    profile.missing_ns = missing;
    profile.max_bins = max_bins;
    uint32_t number = 0;
    windows_enter(self);
    enum engine_status status = engine_profile(self->engine, &profile, &number);
    windows_leave(self);
    return status == ENGINE_DONE ? PyLong_FromUnsignedLong(number) : windows_refuse(status, "profile", number);
}

PyObject *glue_windows_define(PyObject *object, PyObject *args)
{
    Windows *self = (Windows *)object;
    PyObject *first_object, *count_object, *source_object;
    unsigned profile;
    uint32_t first, count, source;
    if (!PyArg_ParseTuple(args, "OOIO", &first_object, &count_object, &profile, &source_object) ||
        glue_u32(first_object, "series", &first) || glue_u32(count_object, "series", &count) ||
        glue_u32(source_object, "source", &source))
        return NULL;
    if ((uint64_t)first + count > UINT32_MAX)
        return windows_refuse(ENGINE_TOO_MANY, "series", first);
    windows_enter(self);
    enum engine_status status = engine_define(self->engine, first, count, profile, source);
    windows_leave(self);
    return status == ENGINE_DONE ? Py_NewRef(Py_None) : windows_refuse(status, "source", source);
}
