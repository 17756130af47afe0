/* WindowEngine: the window engine as `devicemesh.windows` sees it. */
#include "glue_windows.h"

#include "glue_columns.h"
#include "glue_windows_define.h"
#include "glue_windows_out.h"

enum { RELEASE_FROM = 256 }; /* rows for which giving the GIL away pays */

/* ---- life ---- */

static PyObject *windows_new_object(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    struct grid grid;
    int sessions;
    Py_ssize_t max_bytes;
    long long length, hop, offset, gap, lateness, max_future, idle;
    if (!PyArg_ParseTuple(args, "pLLLLLLLn", &sessions, &length, &hop, &offset, &gap, &lateness, &max_future, &idle,
                          &max_bytes))
        return NULL;
    grid = (struct grid){sessions ? GRID_SESSIONS : GRID_PANES, length, hop, offset, gap, lateness, max_future, idle};
    const char *fault = max_bytes < 0 ? "max_bytes" : engine_grid_fault(&grid);
    if (fault)
        return PyErr_Format(PyExc_ValueError, "%s is out of range", fault);
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Windows *self = allocate ? (Windows *)allocate(type, 0) : NULL;
    if (!self)
        return NULL;
    self->engine = engine_new(&grid, (size_t)max_bytes);
#ifndef Py_GIL_DISABLED
    self->gate = PyThread_allocate_lock();
    if (!self->gate || !self->engine) {
#else
    if (!self->engine) {
#endif
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void windows_dealloc(PyObject *object)
{
    Windows *self = (Windows *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->engine)
        engine_free(self->engine);
#ifndef Py_GIL_DISABLED
    if (self->gate)
        PyThread_free_lock(self->gate);
#endif
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* ---- rows ---- */

static PyObject *counts_tuple(const struct row_counts *now, const struct row_counts *before)
{
    return Py_BuildValue("KKKKKKKKKK", (unsigned long long)(now->counted - before->counted),
                         (unsigned long long)(now->late - before->late),
                         (unsigned long long)(now->duplicate - before->duplicate),
                         (unsigned long long)(now->future - before->future),
                         (unsigned long long)(now->bad - before->bad),
                         (unsigned long long)(now->nonfinite - before->nonfinite),
                         (unsigned long long)(now->inexact - before->inexact),
                         (unsigned long long)(now->overflow - before->overflow),
                         (unsigned long long)(now->evicted - before->evicted),
                         (unsigned long long)(now->undeclared - before->undeclared));
}

static int hold_column(struct held *held, PyObject *object, const char *what, const char *formats, Py_ssize_t itemsize,
                       Py_ssize_t count, const void **out)
{
    Py_buffer *view = &held->views[held->count];
    if (glue_column(object, view, what, formats, itemsize, count))
        return -1;
    held->count++;
    *out = view->buf ? view->buf : "";
    return 0;
}

static int fill_rows(struct held *held, PyObject *const *args, Py_ssize_t count, struct rows_view *rows)
{
    const void *values, *qualities = NULL;
    if (hold_column(held, args[0], "series", "IL", 4, -1, &rows->series))
        return -1;
    Py_ssize_t wanted = held->views[0].len / 4;
    rows->count = (size_t)wanted;
    if (hold_column(held, args[1], "time_ns", "ql", 8, wanted, &rows->times) ||
        hold_column(held, args[2], "value", "dql", 8, wanted, &values))
        return -1;
    const char *format = held->views[2].format;
    if (format && format[strlen(format) - 1] == 'd')
        rows->floats = values;
    else
        rows->integers = values;
    if (count > 3 && args[3] != Py_None && hold_column(held, args[3], "quality", "B", 1, wanted, &qualities))
        return -1;
    rows->qualities = qualities;
    return 0;
}

static enum engine_status ingest_rows(struct engine *engine, const struct rows_view *rows, size_t *row,
                                      struct row_counts *before, struct row_counts *after)
{
    enum engine_status status = engine_check(engine, rows, row);
    *before = *engine_counts(engine);
    if (status == ENGINE_DONE)
        engine_ingest(engine, rows);
    *after = *engine_counts(engine);
    return status;
}

static PyObject *ingest(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Windows *self = (Windows *)object;
    struct held held = {.count = 0};
    struct rows_view rows = {0};
    struct row_counts before, after;
    enum engine_status status = ENGINE_DONE;
    size_t row = 0;
    if (count != 3 && count != 4)
        return PyErr_Format(PyExc_TypeError, "%zd arguments, not 3 or 4", count);
    if (fill_rows(&held, args, count, &rows)) {
        release_columns(&held);
        return NULL;
    }
    if (rows.count < RELEASE_FROM) {
        windows_enter(self);
        status = ingest_rows(self->engine, &rows, &row, &before, &after);
        windows_leave(self);
    } else {
        WINDOWS_BEGIN_ROWS(self)
        status = ingest_rows(self->engine, &rows, &row, &before, &after);
        WINDOWS_END_ROWS(self)
    }
    release_columns(&held);
    return status == ENGINE_DONE ? counts_tuple(&after, &before) : windows_refuse(status, "row", row);
}

/* The samples' type by their format. */
static int fill_samples(struct held *held, PyObject *values, struct samples *samples)
{
    static const char formats[] = {[SAMPLES_DOUBLE] = 'd', [SAMPLES_FLOAT] = 'f', [SAMPLES_INT16] = 'h'};
    Py_buffer *view = &held->views[0];
    if (PyObject_GetBuffer(values, view, PyBUF_FORMAT | PyBUF_ND))
        return -1;
    held->count = 1;
    const char *format = view->format ? view->format : "B";
    format += format[0] == '@' || format[0] == '=';
    for (int type = SAMPLES_DOUBLE; type <= SAMPLES_INT16; type++) {
        if (format[0] == formats[type] && !format[1]) {
            samples->type = (enum samples_type)type;
            samples->count = (size_t)(view->len / view->itemsize);
            samples->values = view->buf;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "values: of '%s', not of float64, float32 or int16", format);
    return -1;
}

static PyObject *ingest_array(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Windows *self = (Windows *)object;
    struct held held = {.count = 0};
    struct samples samples = {0};
    struct row_counts before, after;
    enum engine_status status;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "%zd arguments, not 4", count);
    if (glue_u32(args[0], "series", &samples.series) || glue_i64(args[1], &samples.start) ||
        glue_i64(args[2], &samples.step))
        return NULL;
    if (samples.step <= 0) {
        PyErr_SetString(PyExc_ValueError, "dt_ns is not above 0");
        return NULL;
    }
    if (fill_samples(&held, args[3], &samples)) {
        release_columns(&held);
        return NULL;
    }
    WINDOWS_BEGIN_ROWS(self)
    before = *engine_counts(self->engine);
    status = engine_ingest_array(self->engine, &samples);
    after = *engine_counts(self->engine);
    WINDOWS_END_ROWS(self)
    release_columns(&held);
    return status == ENGINE_DONE ? counts_tuple(&after, &before) : windows_refuse(status, "series", samples.series);
}

static PyObject *add(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    Windows *self = (Windows *)object;
    uint32_t series;
    int64_t time;
    uint8_t quality = 0;
    if (count != 3 && count != 4)
        return PyErr_Format(PyExc_TypeError, "%zd arguments, not 3 or 4", count);
    if (glue_u32(args[0], "series", &series) || glue_i64(args[1], &time) ||
        (count == 4 && glue_quality(args[3], &quality)))
        return NULL;
    double value = PyFloat_AsDouble(args[2]);
    if (value == -1 && PyErr_Occurred())
        return NULL;
    windows_enter(self);
    enum engine_status status = engine_add(self->engine, series, time, value, quality);
    windows_leave(self);
    return status == ENGINE_DONE ? Py_NewRef(Py_None) : windows_refuse(status, "series", series);
}

static PyObject *advance(PyObject *object, PyObject *argument)
{
    Windows *self = (Windows *)object;
    int64_t now;
    if (glue_i64(argument, &now))
        return NULL;
    if (now < 0 || now >= ENGINE_TIME_LIMIT) {
        PyErr_SetString(PyExc_ValueError, "now_ns is negative or beyond 2^62");
        return NULL;
    }
    WINDOWS_BEGIN_ROWS(self)
    engine_advance(self->engine, now);
    WINDOWS_END_ROWS(self)
    return Py_NewRef(Py_None);
}

static PyObject *flush(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Windows *self = (Windows *)object;
    WINDOWS_BEGIN_ROWS(self)
    engine_flush(self->engine);
    WINDOWS_END_ROWS(self)
    return Py_NewRef(Py_None);
}

static PyObject *counts(PyObject *object, PyObject *Py_UNUSED(ignored))
{
    Windows *self = (Windows *)object;
    static const struct row_counts none;
    windows_enter(self);
    struct row_counts now = *engine_counts(self->engine);
    windows_leave(self);
    return counts_tuple(&now, &none);
}

static PyObject *memory_bytes(PyObject *object, void *Py_UNUSED(closure))
{
    Windows *self = (Windows *)object;
    windows_enter(self);
    size_t bytes = engine_memory(self->engine);
    windows_leave(self);
    return PyLong_FromSize_t(bytes);
}

static PyObject *unsketched(PyObject *object, void *Py_UNUSED(closure))
{
    Windows *self = (Windows *)object;
    windows_enter(self);
    uint64_t values = engine_unsketched(self->engine);
    windows_leave(self);
    return PyLong_FromUnsignedLongLong(values);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef windows_methods[] = {
    {"profile", glue_windows_profile, METH_VARARGS, "Add a profile; returns its number."},
    {"define", glue_windows_define, METH_VARARGS, "Define series: first, count, profile, source."},
    {"ingest", FAST(ingest), METH_FASTCALL,
     "ingest(series, time_ns, value, quality=None, /)\n--\n\nTake rows; returns how each kind was counted."},
    {"ingest_array", FAST(ingest_array), METH_FASTCALL,
     "ingest_array(series, t0_ns, dt_ns, values, /)\n--\n\nTake samples at equal distances."},
    {"add", FAST(add), METH_FASTCALL, "add(series, time_ns, value, quality=0, /)\n--\n\nTake one row."},
    {"advance", advance, METH_O, "Tell the time."},
    {"flush", flush, METH_NOARGS, "Close every window."},
    {"take", glue_windows_take, METH_O, "What came out: 0 windows, 1 reports, 2 events."},
    {"state", glue_windows_state, METH_NOARGS, "All but the definitions, as bytes."},
    {"restore", glue_windows_restore, METH_O, "Go on from the state of an engine that was defined alike."},
    {"counts", counts, METH_NOARGS, "Rows by what became of them."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef windows_properties[] = {
    {"memory_bytes", memory_bytes, NULL, "Bytes in use of max_bytes.", NULL},
    {"unsketched", unsketched, NULL, "Values that found no memory in their window's quantiles.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot windows_slots[] = {
    {Py_tp_doc, "The window engine; see windows/engine.h."},
    {Py_tp_new, windows_new_object},
    {Py_tp_dealloc, windows_dealloc},
    {Py_tp_methods, windows_methods},
    {Py_tp_getset, windows_properties},
    {0, NULL},
};
PyType_Spec windows_spec = {"devicemesh._core._native.WindowEngine", sizeof(Windows), 0, Py_TPFLAGS_DEFAULT,
                            windows_slots};
