/* What the window engine gives out: columns, each the owner of its memory, readable through the buffer protocol. */
#include "glue_windows_out.h"

#include "glue_columns.h"
#include "windows/state.h"

#include <stdlib.h>

typedef struct {
    PyObject_HEAD
    Windows *owner; /* which has the memory back in the end */
    void *data;
    Py_ssize_t rows;
    enum sheet_type type;
    Py_ssize_t width;
} Column;

static const char *const formats[] = {[SHEET_U8] = "B", [SHEET_U32] = "I", [SHEET_I64] = "q", [SHEET_F64] = "d"};

static int column_buffer(PyObject *object, Py_buffer *view, int flags)
{
    Column *self = (Column *)object;
    static char nothing[8];
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "a column is read-only");
        view->obj = NULL;
        return -1;
    }
    *view = (Py_buffer){.buf = self->data ? self->data : nothing,
                        .obj = Py_NewRef(object),
                        .len = self->rows * self->width,
                        .itemsize = self->width,
                        .readonly = 1,
                        .ndim = 1,
                        .format = flags & PyBUF_FORMAT ? (char *)(uintptr_t)formats[self->type] : NULL,
                        .shape = flags & PyBUF_ND ? &self->rows : NULL,
                        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? &self->width : NULL};
    return 0;
}

static void column_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    Column *self = (Column *)object;
    if (self->owner) {
        windows_enter(self->owner);
        engine_return(self->owner->engine, self->data);
        windows_leave(self->owner);
        Py_DECREF((PyObject *)self->owner);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyType_Slot column_slots[] = {
    {Py_tp_doc, "A column of results: read it through memoryview() or numpy.asarray()."},
    {Py_tp_dealloc, column_dealloc},
    {Py_bf_getbuffer, column_buffer},
    {0, NULL},
};
PyType_Spec column_spec = {"devicemesh._core._native.Column", sizeof(Column), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, column_slots};

/* A Column that owns `data`, which is freed on failure. */
static PyObject *make_column(PyTypeObject *type, Windows *owner, void *data, size_t rows, enum sheet_type kind)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Column *column = allocate ? (Column *)allocate(type, 0) : NULL;
    if (!column) {
        memory_free(data);
        return NULL;
    }
    column->owner = (Windows *)Py_NewRef((PyObject *)owner);
    column->data = data;
    column->rows = (Py_ssize_t)rows;
    column->type = kind;
    column->width = (Py_ssize_t)sheet_width(kind);
    return (PyObject *)column;
}

PyObject *glue_windows_take(PyObject *object, PyObject *argument)
{
    Windows *self = (Windows *)object;
    const char *names[SHEET_COLUMNS_MAX];
    struct sheet sheet;
    uint32_t output;
    if (glue_u32(argument, "output", &output))
        return NULL;
    if (output >= OUTPUT_COUNT)
        return PyErr_Format(PyExc_ValueError, "output %u is out of range", output);
    struct module_state *state = PyType_GetModuleState(Py_TYPE(object));
    PyObject *pairs = PyList_New(0);
    if (!state || !pairs)
        return NULL;
    windows_enter(self);
    engine_take(self->engine, (enum engine_output)output, &sheet);
    for (uint32_t i = 0; i < sheet.count; i++)
        names[i] = engine_column_name(self->engine, (enum engine_output)output, i);
    windows_leave(self);
    for (uint32_t i = 0; i < sheet.count; i++) {
        PyObject *column =
            make_column((PyTypeObject *)state->column_type, self, sheet.columns[i], sheet.rows, sheet.types[i]);
        PyObject *pair = pairs && column ? Py_BuildValue("(sO)", names[i], column) : NULL;
        Py_XDECREF(column);
        if (pairs && (!pair || PyList_Append(pairs, pair)))
            Py_CLEAR(pairs);
        Py_XDECREF(pair);
    }
    return pairs;
}

/* ---- the state ---- */

PyObject *glue_windows_state(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Windows *self = (Windows *)object;
    struct buffer buffer = {0};
    bool done = false;
    WINDOWS_BEGIN_ROWS(self)
    done = engine_write(self->engine, &buffer);
    WINDOWS_END_ROWS(self)
    PyObject *bytes = done ? PyBytes_FromStringAndSize((const char *)buffer.bytes, (Py_ssize_t)buffer.length)
                           : PyErr_NoMemory();
    buffer_clear(&buffer, 0);
    return bytes;
}

PyObject *glue_windows_restore(PyObject *object, PyObject *state)
{
    Windows *self = (Windows *)object;
    Py_buffer view;
    enum state_status status = STATE_DAMAGED;
    if (PyObject_GetBuffer(state, &view, PyBUF_SIMPLE))
        return NULL;
    WINDOWS_BEGIN_ROWS(self)
    status = engine_read(self->engine, view.buf, (size_t)view.len);
    WINDOWS_END_ROWS(self)
    PyBuffer_Release(&view);
    if (status == STATE_READ)
        return Py_NewRef(Py_None);
    if (status == STATE_NO_MEMORY)
        PyErr_SetString(PyExc_MemoryError, "max_bytes is reached");
    else
        PyErr_SetString(PyExc_ValueError, status == STATE_FOREIGN ? "snapshot: of another build or other definitions"
                                                                  : "snapshot: damaged");
    return NULL;
}
