/* encode_sparkplug as Python sees it. */
#include "glue.h"
#include "sparkplug.h"

/* Borrow the bytes of every name; they live as long as the tuple. */
static int borrow_names(PyObject *tuple, struct text *names, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, i), &bytes, &length))
            return -1;
        names[i] = (struct text){(const uint8_t *)bytes, (size_t)length};
    }
    return 0;
}

static PyObject *encoded(const Py_buffer *body, const struct sparkplug_metrics *metrics, int64_t now_ms)
{
    struct buffer out = {0};
    PyObject *result = NULL;
    switch (sparkplug_encode(&out, body->buf, (size_t)body->len, metrics, now_ms)) {
    case SPARKPLUG_DONE:
        result = PyBytes_FromStringAndSize((const char *)out.bytes, (Py_ssize_t)out.length);
        break;
    case SPARKPLUG_NO_MEMORY:
        PyErr_NoMemory();
        break;
    default:
        result = Py_NewRef(Py_None);
    }
    buffer_clear(&out, 0);
    return result;
}

/* With the table of metrics and the names in place. */
static PyObject *encode(const Py_buffer *body, const Py_buffer *table, PyObject *tuple, struct sparkplug_metrics metrics,
                        int64_t now_ms)
{
    const size_t row = sizeof(struct sparkplug_property);
    bool aligned = !table->len || (uintptr_t)table->buf % _Alignof(struct sparkplug_property) == 0;
    if ((size_t)table->len % row || !aligned) {
        PyErr_SetString(PyExc_ValueError, "metrics: not a table of 32-bit numbers, 65 for each property");
        return NULL;
    }
    metrics.properties = table->buf;
    metrics.properties_count = (size_t)table->len / row;
    if (tuple == Py_None)
        return encoded(body, &metrics, now_ms);
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0)
        return NULL;
    struct text *names = PyMem_Calloc((size_t)count + 1, sizeof *names);
    if (!names)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    if (!borrow_names(tuple, names, count)) {
        metrics.names = names;
        metrics.names_count = (size_t)count;
        result = encoded(body, &metrics, now_ms);
    }
    PyMem_Free(names);
    return result;
}

PyObject *glue_encode_sparkplug(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer body, table;
    PyObject *names;
    unsigned long long first_alias;
    long long now_ms;
    int late;
    if (!PyArg_ParseTuple(args, "y*y*OKpL", &body, &table, &names, &first_alias, &late, &now_ms))
        return NULL;
    struct sparkplug_metrics metrics = {.first_alias = first_alias, .late = late};
    PyObject *result = encode(&body, &table, names, metrics, now_ms);
    PyBuffer_Release(&table);
    PyBuffer_Release(&body);
    return result;
}
