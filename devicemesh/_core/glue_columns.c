#include "glue_columns.h"

int glue_u32(PyObject *object, const char *what, uint32_t *out)
{
    long long value = PyLong_AsLongLong(object);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < 0 || value > UINT32_MAX) {
        PyErr_Format(PyExc_ValueError, "%s %lld is out of range", what, value);
        return -1;
    }
    *out = (uint32_t)value;
    return 0;
}

int glue_i64(PyObject *object, int64_t *out)
{
    *out = PyLong_AsLongLong(object);
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

int glue_quality(PyObject *object, uint8_t *out)
{
    long value = PyLong_AsLong(object);
    if (value == -1 && PyErr_Occurred())
        return -1;
    if (value < 0 || value > 255) {
        PyErr_Format(PyExc_ValueError, "quality %ld is not a byte", value);
        return -1;
    }
    *out = (uint8_t)value;
    return 0;
}

int glue_column(PyObject *object, Py_buffer *view, const char *what, const char *formats, Py_ssize_t itemsize,
                      Py_ssize_t count)
{
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_ND))
        return -1;
    const char *format = view->format ? view->format : "B";
    if (format[0] == '@' || format[0] == '=')
        format++;
    if (view->itemsize != itemsize || !format[0] || format[1] || !strchr(formats, format[0]))
        PyErr_Format(PyExc_TypeError, "%s: a column of '%s' where one of %s is wanted", what, format, formats);
    else if (count >= 0 && view->len != count * itemsize)
        PyErr_Format(PyExc_ValueError, "%s: %zd rows, not %zd as in the other columns", what, view->len / itemsize, count);
    else
        return 0;
    PyBuffer_Release(view);
    return -1;
}

static const uint8_t *hold(struct held *held, PyObject *object, const char *what, const char *formats,
                           Py_ssize_t itemsize, Py_ssize_t count)
{
    Py_buffer *view = &held->views[held->count];
    if (glue_column(object, view, what, formats, itemsize, count))
        return NULL;
    held->count++;
    return view->buf ? view->buf : (const uint8_t *)"";
}

int fill_columns(struct held *held, PyObject *const *args, struct columns *columns)
{
    if (!(columns->slots = hold(held, args[0], "slot", "IL", 4, -1)))
        return -1;
    Py_ssize_t count = held->views[0].len / 4;
    columns->count = (size_t)count;
    if (PyLong_Check(args[1]) ? glue_i64(args[1], &columns->time)
                              : !(columns->times = hold(held, args[1], "time_ns", "ql", 8, count)))
        return -1;
    const uint8_t *values = hold(held, args[2], "value", "dql", 8, count);
    if (!values)
        return -1;
    const char *format = held->views[held->count - 1].format;
    if (format[strlen(format) - 1] == 'd')
        columns->floats = values;
    else
        columns->integers = values;
    if (PyLong_Check(args[3]) ? glue_quality(args[3], &columns->quality)
                              : !(columns->qualities = hold(held, args[3], "quality", "B", 1, count)))
        return -1;
    return 0;
}

void release_columns(struct held *held)
{
    while (held->count)
        PyBuffer_Release(&held->views[--held->count]);
}
