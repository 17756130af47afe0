/* The last values: one by one for Python, or many at once as JSON for the twin. */
#include "glue_columns.h"
#include "json.h"
#include "quality.h"

PyObject *glue_rows(PyObject *self, PyObject *argument)
{
    uint32_t slot;
    struct aggregator *core = glue_core(self);
    if (!core || glue_u32(argument, "slot", &slot))
        return NULL;
    return PyLong_FromUnsignedLongLong(aggregator_rows(core, slot));
}

PyObject *glue_latest(PyObject *self, PyObject *argument)
{
    uint32_t slot;
    struct aggregator *core = glue_core(self);
    if (!core || glue_u32(argument, "slot", &slot))
        return NULL;
    struct latest row;
    if (!aggregator_latest(core, slot, &row)) {
        PyErr_SetObject(PyExc_KeyError, argument);
        return NULL;
    }
    if (!row.any)
        return Py_NewRef(Py_None);
    PyObject *value;
    if (value_is_float(&row.value))
        value = PyFloat_FromDouble(row.value.number);
    else if (row.value.tag == VALUE_INTEGER)
        value = PyLong_FromLongLong(row.value.integer);
    else if (row.value.tag == VALUE_BOOLEAN)
        value = PyBool_FromLong(row.value.integer != 0);
    else
        value = Py_NewRef(Py_None);
    return Py_BuildValue("LNiO", (long long)row.time, value, (int)row.quality,
                         value_is_text(&row.value) ? Py_True : Py_False);
}

/* A reading as JSON, or None of a text: the core does not keep it. */
static PyObject *reading(const struct latest *row)
{
    char out[READING_ROOM];
    if (!row->any)
        return PyBytes_FromString("{\"value\":null,\"time\":null,\"quality\":\"Bad.Pending\"}");
    if (value_is_text(&row->value))
        return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize(out, json_reading(out, &row->value, row->time, row->quality) - out);
}

/* Fill `list` and `qualities`; returns the newest time of a row that is not bad. */
static int64_t fill(struct aggregator *core, const Py_buffer *slots, PyObject *list, char *qualities)
{
    int64_t newest = 0;
    for (Py_ssize_t i = 0; i < slots->len / 4; i++) {
        struct latest row = {.any = false}; /* a copy: making objects may run a finalizer */
        uint32_t slot;
        memcpy(&slot, (const char *)slots->buf + 4 * i, sizeof slot);
        aggregator_latest(core, slot, &row);
        qualities[i] = (char)(row.any ? row.quality : QUALITY_PENDING);
        if (row.any && !quality_is_bad(row.quality) && row.time > newest)
            newest = row.time;
        PyObject *text = reading(&row);
        if (!text || PyList_SetItem(list, i, text))
            return -1;
    }
    return newest;
}

PyObject *glue_snapshot(PyObject *self, PyObject *argument)
{
    Py_buffer slots;
    struct aggregator *core = glue_core(self);
    if (!core || glue_column(argument, &slots, "slot", "IL", 4, -1))
        return NULL;
    Py_ssize_t count = slots.len / 4;
    PyObject *list = PyList_New(count), *qualities = PyBytes_FromStringAndSize(NULL, count), *result = NULL;
    if (list && qualities) {
        int64_t newest = fill(core, &slots, list, PyBytes_AsString(qualities));
        if (newest >= 0)
            result = Py_BuildValue("OLO", qualities, (long long)newest, list);
    }
    Py_XDECREF(qualities);
    Py_XDECREF(list);
    PyBuffer_Release(&slots);
    return result;
}
