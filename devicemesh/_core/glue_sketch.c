/* Sketch: a quantile sketch as Python sees it. */
#include "glue_columns.h"
#include "glue_lock.h"
#include "glue_parts.h"
#include "windows/sketch.h"

typedef struct {
    PyObject_HEAD
    struct sketch core;
    struct sketch_rule rule;
} Sketch;

#define SKETCH(object) ((Sketch *)(object))

static PyObject *sketch_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"relative_error", "max_bins", NULL};
    struct sketch_rule rule;
    double relative_error = 0.01;
    unsigned int max_bins = 2048;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|dI", names, &relative_error, &max_bins))
        return NULL;
    if (!sketch_rule_init(&rule, relative_error, max_bins)) {
        PyErr_SetString(PyExc_ValueError, "relative_error is from 0.0001 to 0.5, max_bins from 64 to 1048576");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *self = allocate ? allocate(type, 0) : NULL;
    if (self)
        SKETCH(self)->rule = rule;
    return self;
}

static void sketch_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    sketch_clear(&SKETCH(self)->core);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *none_or_no_memory(int64_t bytes)
{
    return bytes < 0 ? PyErr_NoMemory() : Py_NewRef(Py_None);
}

static int check_finite(double value)
{
    if (value - value == 0)
        return 0;
    PyErr_SetString(PyExc_ValueError, "value is not finite");
    return -1;
}

static PyObject *add(PyObject *self, PyObject *argument)
{
    double value = PyFloat_AsDouble(argument);
    if ((value == -1 && PyErr_Occurred()) || check_finite(value))
        return NULL;
    int64_t bytes;
    GLUE_LOCK(self)
    bytes = sketch_add(&SKETCH(self)->core, &SKETCH(self)->rule, value);
    GLUE_UNLOCK
    return none_or_no_memory(bytes);
}

/* The buffer may change while it is read: each value is looked at once. */
static int64_t add_column(Sketch *self, const Py_buffer *view)
{
    for (Py_ssize_t at = 0; at < view->len; at += (Py_ssize_t)sizeof(double)) {
        double value;
        memcpy(&value, (const char *)view->buf + at, sizeof value);
        if (value - value == 0 && sketch_add(&self->core, &self->rule, value) < 0)
            return -1;
    }
    return 0;
}

static PyObject *update(PyObject *self, PyObject *argument)
{
    Py_buffer view;
    if (glue_column(argument, &view, "values", "d", sizeof(double), -1))
        return NULL;
    int64_t bytes;
    GLUE_LOCK(self)
    bytes = add_column(SKETCH(self), &view);
    GLUE_UNLOCK
    PyBuffer_Release(&view);
    return none_or_no_memory(bytes);
}

static PyObject *merge(PyObject *self, PyObject *other)
{
    if (Py_TYPE(other) != Py_TYPE(self)) {
        PyErr_SetString(PyExc_TypeError, "other is not a Sketch");
        return NULL;
    }
    if (SKETCH(self)->rule.multiplier != SKETCH(other)->rule.multiplier ||
        SKETCH(self)->rule.max_bins != SKETCH(other)->rule.max_bins) {
        PyErr_SetString(PyExc_ValueError, "other has another relative_error or max_bins");
        return NULL;
    }
    if (self == other) {
        PyErr_SetString(PyExc_ValueError, "a sketch can't be merged into itself");
        return NULL;
    }
    int64_t bytes;
    GLUE_LOCK_BOTH(self, other)
    bytes = sketch_merge(&SKETCH(self)->core, &SKETCH(self)->rule, &SKETCH(other)->core);
    GLUE_UNLOCK_BOTH
    return none_or_no_memory(bytes);
}

static PyObject *quantile(PyObject *self, PyObject *argument)
{
    double q = PyFloat_AsDouble(argument), value;
    if (q == -1 && PyErr_Occurred())
        return NULL;
    if (!(q >= 0 && q <= 1)) {
        PyErr_SetString(PyExc_ValueError, "q is not in 0 to 1");
        return NULL;
    }
    GLUE_LOCK(self)
    value = sketch_quantile(&SKETCH(self)->core, &SKETCH(self)->rule, q);
    GLUE_UNLOCK
    return PyFloat_FromDouble(value);
}

static PyObject *to_bytes(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct buffer out = {0};
    bool written;
    GLUE_LOCK(self)
    written = sketch_write(&SKETCH(self)->core, &out);
    GLUE_UNLOCK
    PyObject *bytes = written ? PyBytes_FromStringAndSize((const char *)out.bytes, (Py_ssize_t)out.length)
                              : PyErr_NoMemory();
    buffer_clear(&out, 0);
    return bytes;
}

static PyObject *read_bytes(PyObject *self, PyObject *argument)
{
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE))
        return NULL;
    const uint8_t *start = view.buf ? view.buf : (const uint8_t *)"";
    struct cursor cursor = {start, start + view.len, false};
    struct sketch read = {0};
    int64_t bytes = sketch_read(&read, &SKETCH(self)->rule, &cursor);
    PyBuffer_Release(&view);
    if (cursor.failed || cursor.at != cursor.end) {
        sketch_clear(&read);
        PyErr_SetString(PyExc_ValueError, "the bytes are not a sketch of this rule");
        return NULL;
    }
    if (bytes >= 0) {
        GLUE_LOCK(self)
        sketch_clear(&SKETCH(self)->core);
        SKETCH(self)->core = read;
        GLUE_UNLOCK
    }
    return none_or_no_memory(bytes);
}

static PyObject *get_count(PyObject *self, void *Py_UNUSED(closure))
{
    uint64_t count;
    GLUE_LOCK(self)
    count = sketch_count(&SKETCH(self)->core);
    GLUE_UNLOCK
    return PyLong_FromUnsignedLongLong(count);
}

static PyObject *get_collapsed(PyObject *self, void *Py_UNUSED(closure))
{
    uint64_t count;
    GLUE_LOCK(self)
    count = sketch_collapsed(&SKETCH(self)->core);
    GLUE_UNLOCK
    return PyLong_FromUnsignedLongLong(count);
}

static PyObject *get_nbytes(PyObject *self, void *Py_UNUSED(closure))
{
    size_t bytes;
    GLUE_LOCK(self)
    bytes = sizeof(struct sketch) + sketch_bytes(&SKETCH(self)->core);
    GLUE_UNLOCK
    return PyLong_FromSize_t(bytes);
}

static PyMethodDef methods[] = {
    {"add", add, METH_O, "Take a finite value. Raises ValueError for others."},
    {"update", update, METH_O, "Take a column of float64; NaN and infinities in it are skipped."},
    {"merge", merge, METH_O, "Take all that another sketch of the same rule holds."},
    {"quantile", quantile, METH_O, "The value of rank floor(q * (count - 1)); NaN if there is none."},
    {"to_bytes", to_bytes, METH_NOARGS, "What it holds; equal bytes for equal content."},
    {"read", read_bytes, METH_O, "Hold what was written under the same rule instead. Raises ValueError."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef properties[] = {
    {"count", get_count, NULL, "Values taken.", NULL},
    {"collapsed", get_collapsed, NULL, "Values nearest zero for which the relative error is not kept.", NULL},
    {"nbytes", get_nbytes, NULL, "Bytes of memory.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, "Sketch(relative_error=0.01, max_bins=2048)\n--\n\nQuantiles with a relative error; see sketch.h."},
    {Py_tp_new, sketch_new},
    {Py_tp_dealloc, sketch_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};
PyType_Spec sketch_spec = {"devicemesh._core._native.Sketch", sizeof(Sketch), 0, Py_TPFLAGS_DEFAULT, slots};
