#include "glue_parts.h"
#include "glue_columns.h"
#include "windows/dense.h"

enum { WITHOUT_GIL = 4096 }; /* values from which on other threads may run meanwhile */

static void fold(struct dense *dense, const Py_buffer *view)
{
    size_t count = (size_t)(view->len / view->itemsize);
    switch (view->itemsize) {
    case 2:
        dense_fold_int16(dense, view->buf, count);
        break;
    case 4:
        dense_fold_float(dense, view->buf, count);
        break;
    default:
        dense_fold_double(dense, view->buf, count);
    }
}

static int open_values(PyObject *values, Py_buffer *view)
{
    if (PyObject_GetBuffer(values, view, PyBUF_FORMAT | PyBUF_ND))
        return -1;
    const char *format = view->format ? view->format : "B";
    if (format[0] == '@' || format[0] == '=')
        format++;
    if (format[0] && !format[1] && strchr("dfh", format[0]))
        return 0;
    PyErr_Format(PyExc_TypeError, "values: an array of '%s' where one of float64, float32 or int16 is wanted", format);
    PyBuffer_Release(view);
    return -1;
}

PyObject *glue_fold_dense(PyObject *Py_UNUSED(module), PyObject *values)
{
    Py_buffer view;
    struct dense dense;
    if (open_values(values, &view))
        return NULL;
    if (view.len / view.itemsize < WITHOUT_GIL) {
        fold(&dense, &view);
    } else {
        Py_BEGIN_ALLOW_THREADS
        fold(&dense, &view);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    return Py_BuildValue("KKddddddddnnnn", (unsigned long long)dense.count, (unsigned long long)dense.nonfinite,
                         dense.shift, dense.sum, dense.squares, dense.power, dense.min, dense.max, dense.first,
                         dense.last, (Py_ssize_t)dense.min_at, (Py_ssize_t)dense.max_at, (Py_ssize_t)dense.first_at,
                         (Py_ssize_t)dense.last_at);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef functions[] = {
    {"fold_dense", glue_fold_dense, METH_O,
     "(count, nonfinite, shift, sum, squares, power, min, max, first, last, min_at, max_at, first_at, last_at)."},
    {"encode_json_objects", FAST(glue_json_objects), METH_FASTCALL, "Columns and rows as one JSON object a line."},
    {"encode_json_arrays", FAST(glue_json_arrays), METH_FASTCALL, "Columns and rows as a JSON object of arrays."},
    {"encode_line", FAST(glue_line), METH_FASTCALL,
     "Columns, rows, measurement and the number of the stamp's column as InfluxDB line protocol."},
    {NULL, NULL, 0, NULL},
};

int glue_parts(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &sketch_spec, NULL);
    int failed = !type || PyModule_AddType(module, (PyTypeObject *)type) || PyModule_AddFunctions(module, functions);
    Py_XDECREF(type);
    return failed ? -1 : 0;
}
