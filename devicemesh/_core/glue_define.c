/* Aggregator.define: the rules of a series out of Python's objects. */
#include "glue_columns.h"

static int parse_limit(PyObject *item, struct limit *limit, int32_t *carry)
{
    int above;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a limit is a tuple");
        return -1;
    }
    long long delay_ns;
    if (!PyArg_ParseTuple(item, "pddLi", &above, &limit->limit, &limit->clear, &delay_ns, carry))
        return -1;
    limit->above = above != 0;
    limit->delay_ns = delay_ns;
    return 0;
}

static PyObject *define_with(PyObject *self, uint32_t slot, struct place place, struct rules *rules, PyObject *limits)
{
    Py_ssize_t count = PySequence_Size(limits);
    if (count < 0)
        return NULL;
    struct limit *parsed = PyMem_Calloc((size_t)count + 1, sizeof *parsed);
    int32_t *carry = PyMem_Calloc((size_t)count + 1, sizeof *carry);
    int failed = !parsed || !carry;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        PyObject *item = PySequence_GetItem(limits, i);
        failed = !item || parse_limit(item, &parsed[i], &carry[i]);
        Py_XDECREF(item);
    }
    enum define_status status = DEFINE_INVALID;
    struct aggregator *core = failed ? NULL : glue_core(self);
    failed = !core;
    if (!failed) {
        rules->limits = parsed;
        rules->limits_count = (uint64_t)count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
        status = aggregator_define(core, slot, place, rules, carry);
    }
    PyMem_Free(parsed);
    PyMem_Free(carry);
    if (failed)
        return NULL;
    if (status == DEFINE_NO_MEMORY)
        return PyErr_NoMemory();
    if (status == DEFINE_INVALID) {
        PyErr_SetString(PyExc_ValueError, "the series' rules are out of range");
        return NULL;
    }
    return Py_NewRef(Py_None);
}

static int parse_quantiles(PyObject *quantiles, struct rules *rules)
{
    Py_ssize_t count = PySequence_Size(quantiles);
    if (count > QUANTILES_MOST)
        PyErr_Format(PyExc_ValueError, "quantiles: %zd where %d are the most", count, QUANTILES_MOST);
    if (count < 0 || count > QUANTILES_MOST)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(quantiles, i);
        int failed = !item || glue_u32(item, "quantile", &rules->quantiles[i]);
        Py_XDECREF(item);
        if (failed)
            return -1;
    }
    rules->quantiles_count = (uint32_t)count;
    if (count)
        rules->mask |= UINT32_C(1) << STATISTIC_QUANTILES;
    return 0;
}

PyObject *glue_define(PyObject *self, PyObject *args)
{
    struct rules rules = {0};
    PyObject *slot_object, *stream_object, *property_object, *mask_object, *quantiles, *limits;
    uint32_t slot;
    struct place place;
    long long silence_ns, pause_ns, window_ns, lateness_ns;
    if (!PyArg_ParseTuple(args, "OOObbOOddLLLLO", &slot_object, &stream_object, &property_object, &rules.kind,
                          &rules.report, &mask_object, &quantiles, &rules.deadband.absolute, &rules.deadband.fraction,
                          &silence_ns, &pause_ns, &window_ns, &lateness_ns, &limits))
        return NULL;
    if (glue_u32(slot_object, "slot", &slot) || glue_u32(stream_object, "stream", &place.stream) ||
        glue_u32(property_object, "property", &place.property) || glue_u32(mask_object, "mask", &rules.mask) ||
        parse_quantiles(quantiles, &rules))
        return NULL;
    rules.deadband.silence_ns = silence_ns;
    rules.deadband.pause_ns = pause_ns;
    rules.window_ns = window_ns;
    rules.lateness_ns = lateness_ns;
    return define_with(self, slot, place, &rules, limits);
}
