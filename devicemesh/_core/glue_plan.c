/* Plan: a decode plan as Python sees it. */
#include "decode.h"
#include "glue.h"
#include "quality.h"

typedef struct {
    PyObject_HEAD
    struct decode_plan *plan;
    PyObject *values;    /* an array of the right type and length, to be copied for each answer */
    PyObject *qualities; /* the same for 'B' */
    int integers;
} Plan;

static int parse_op(PyObject *item, struct decode_op *op)
{
    Py_ssize_t offset;
    unsigned char size, type, order, shift, width;
    int scaled, has_null;
    unsigned long long null;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "an op is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "nbbbbbpddpK", &offset, &size, &type, &order, &shift, &width, &scaled, &op->scale,
                          &op->add, &has_null, &null))
        return -1;
    if (offset < 0) {
        PyErr_SetString(PyExc_ValueError, "the offset is negative");
        return -1;
    }
    op->offset = (size_t)offset;
    op->size = size;
    op->type = type;
    op->order = order;
    op->shift = shift;
    op->width = width;
    op->scaled = scaled != 0;
    op->has_null = has_null != 0;
    op->null = null;
    const char *wrong = decode_op_error(op);
    if (wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    return wrong ? -1 : 0;
}

static int fill_plan(Plan *self, PyObject *ops, Py_ssize_t count)
{
    self->plan = PyMem_Calloc(1, sizeof *self->plan + (size_t)count * sizeof self->plan->ops[0]);
    if (!self->plan) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        struct decode_op op;
        PyObject *item = PySequence_GetItem(ops, i);
        int failed = !item || parse_op(item, &op);
        Py_XDECREF(item);
        if (failed)
            return -1;
        if (self->integers && (op.type == DECODE_FLOAT || op.scaled)) {
            PyErr_SetString(PyExc_ValueError, "a float in a plan of integers");
            return -1;
        }
        decode_plan_add(self->plan, &op);
    }
    return 0;
}

/* An array of `count` zeros. */
static PyObject *zeros(PyObject *array_type, const char *code, Py_ssize_t count)
{
    PyObject *one = PyObject_CallFunction(array_type, "s(i)", code, 0);
    PyObject *all = one ? PySequence_Repeat(one, count) : NULL;
    Py_XDECREF(one);
    return all;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"ops", "integers", NULL};
    PyObject *ops;
    int integers = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|p", names, &ops, &integers))
        return NULL;
    Py_ssize_t count = PySequence_Size(ops);
    if (count < 0)
        return NULL;
    struct module_state *state = PyType_GetModuleState(type);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Plan *self = state && allocate ? (Plan *)allocate(type, 0) : NULL;
    if (!self)
        return NULL;
    self->integers = integers;
    if (fill_plan(self, ops, count) || !(self->values = zeros(state->array_type, integers ? "q" : "d", count)) ||
        !(self->qualities = zeros(state->array_type, "B", count))) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void plan_dealloc(PyObject *object)
{
    Plan *self = (Plan *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyMem_Free(self->plan);
    Py_XDECREF(self->values);
    Py_XDECREF(self->qualities);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* The quality column of a record of which not every value was found. */
static PyObject *quality_column(const Plan *self, const uint8_t *state)
{
    static const uint8_t qualities[] = {
        [DECODE_FOUND] = QUALITY_GOOD, [DECODE_SHORT] = QUALITY_UNDECODABLE, [DECODE_NULL] = QUALITY_BAD};
    PyObject *quality = PySequence_Repeat(self->qualities, 1);
    Py_buffer view;
    if (!quality || PyObject_GetBuffer(quality, &view, PyBUF_WRITABLE)) {
        Py_XDECREF(quality);
        return NULL;
    }
    for (size_t i = 0; i < self->plan->count; i++)
        ((uint8_t *)view.buf)[i] = qualities[state[i]];
    PyBuffer_Release(&view);
    return quality;
}

static PyObject *decode_into(const Plan *self, const Py_buffer *record, Py_buffer *out)
{
    size_t length = (size_t)record->len;
    uint8_t *state = NULL;
    if (decode_may_miss(self->plan, length) && !(state = PyMem_Malloc(self->plan->count)))
        return PyErr_NoMemory();
    size_t missing = self->integers ? decode_integers(self->plan, record->buf, length, out->buf, state)
                                    : decode_doubles(self->plan, record->buf, length, out->buf, state);
    PyObject *quality = missing && state ? quality_column(self, state) : PyLong_FromLong(QUALITY_GOOD);
    PyMem_Free(state);
    return quality;
}

PyDoc_STRVAR(decode_doc, "decode(record)\n--\n\nReturn (values, quality): quality is 0, or a column where not every value "
                         "is there.");

static PyObject *plan_decode(PyObject *object, PyObject *argument)
{
    Plan *self = (Plan *)object;
    Py_buffer record, out;
    if (PyObject_GetBuffer(argument, &record, PyBUF_SIMPLE))
        return NULL;
    PyObject *values = PySequence_Repeat(self->values, 1);
    PyObject *quality = NULL;
    if (values && !PyObject_GetBuffer(values, &out, PyBUF_WRITABLE)) {
        quality = decode_into(self, &record, &out);
        PyBuffer_Release(&out);
    }
    PyBuffer_Release(&record);
    PyObject *result = quality ? PyTuple_Pack(2, values, quality) : NULL;
    Py_XDECREF(values);
    Py_XDECREF(quality);
    return result;
}

static PyObject *plan_reach(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(((Plan *)self)->plan->reach);
}

static PyMethodDef plan_methods[] = {{"decode", plan_decode, METH_O, decode_doc}, {NULL, NULL, 0, NULL}};
static PyGetSetDef plan_properties[] = {{"reach", plan_reach, NULL, "Bytes that a record needs to hold every value.", NULL},
                                        {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot plan_slots[] = {
    {Py_tp_doc, "Plan(ops, integers=False)\n--\n\nA compiled decode plan; an op is (offset, size, type, order, "
                "shift, width, scaled, scale, add, has_null, null)."},
    {Py_tp_new, plan_new},           {Py_tp_dealloc, plan_dealloc}, {Py_tp_methods, plan_methods},
    {Py_tp_getset, plan_properties}, {0, NULL},
};
PyType_Spec plan_spec = {"devicemesh._core._native.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT, plan_slots};
