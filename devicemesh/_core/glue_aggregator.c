/* Aggregator: the aggregator as `devicemesh.aggregate` sees it. The GIL is its lock, or where there is none, its own. */
#include "glue_columns.h"
#include "glue_lock.h"

typedef struct {
    PyObject_HEAD
    struct aggregator *core;
    int lent; /* Python objects are being made of what the core lends: nothing may change it meanwhile */
} Aggregator;

struct aggregator *glue_core(PyObject *self)
{
    if (!((Aggregator *)self)->lent)
        return ((Aggregator *)self)->core;
    PyErr_SetString(PyExc_RuntimeError, "the aggregator was called from inside itself");
    return NULL;
}

static int check_count(Py_ssize_t count, Py_ssize_t wanted)
{
    if (count == wanted)
        return 0;
    PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", wanted, count);
    return -1;
}

/* ---- life ---- */

static PyObject *aggregator_new_object(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"epoch", "max_pending_bytes", NULL};
    PyObject *epoch_object;
    Py_ssize_t max_pending_bytes;
    uint32_t epoch;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "On", names, &epoch_object, &max_pending_bytes) ||
        glue_u32(epoch_object, "epoch", &epoch))
        return NULL;
    if (max_pending_bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "max_pending_bytes is negative");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Aggregator *self = allocate ? (Aggregator *)allocate(type, 0) : NULL;
    if (self && !(self->core = aggregator_new(epoch, (size_t)max_pending_bytes))) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void aggregator_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (((Aggregator *)object)->core)
        aggregator_free(((Aggregator *)object)->core);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

/* ---- definitions ---- */

static PyObject *slot_at(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct place place;
    struct aggregator *core = glue_core(self);
    if (!core || check_count(count, 2) || glue_u32(args[0], "stream", &place.stream) ||
        glue_u32(args[1], "property", &place.property))
        return NULL;
    uint32_t slot = aggregator_slot_at(core, place);
    return slot == MAX_IDS ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(slot);
}

static PyObject *remove_slot(PyObject *self, PyObject *argument)
{
    uint32_t slot;
    struct aggregator *core = glue_core(self);
    if (!core || glue_u32(argument, "slot", &slot))
        return NULL;
    return PyBool_FromLong(aggregator_remove(core, slot));
}

/* ---- rows ---- */

static PyObject *push(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct held held = {.count = 0};
    struct columns columns = {0};
    if (check_count(count, 4))
        return NULL;
    int failed = fill_columns(&held, args, &columns);
    struct aggregator *core = failed ? NULL : glue_core(self);
    if (core)
        aggregator_push(core, &columns);
    release_columns(&held);
    return core ? Py_NewRef(Py_None) : NULL;
}

static int parse_value(long tag, PyObject *object, struct value *value, struct text *text, Py_buffer *view)
{
    if (tag < VALUE_NULL || tag > VALUE_JSON) {
        PyErr_SetString(PyExc_ValueError, "unknown tag");
        return -1;
    }
    value->tag = (enum value_tag)tag;
    if (value_is_float(value)) {
        value->number = PyFloat_AsDouble(object);
        return value->number == -1 && PyErr_Occurred() ? -1 : 0;
    }
    if (value->tag == VALUE_INTEGER || value->tag == VALUE_BOOLEAN)
        return glue_i64(object, &value->integer);
    if (!value_is_text(value))
        return 0;
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE))
        return -1;
    *text = (struct text){view->buf, (size_t)view->len};
    value->text = text;
    return 0;
}

static PyObject *row(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t slot;
    int64_t time;
    uint8_t quality;
    struct value value;
    struct text text;
    Py_buffer view;
    if (check_count(count, 6) || glue_u32(args[0], "slot", &slot) || glue_i64(args[1], &time) ||
        glue_quality(args[2], &quality))
        return NULL;
    long tag = PyLong_AsLong(args[3]);
    double number = PyFloat_AsDouble(args[5]);
    if (PyErr_Occurred() || parse_value(tag, args[4], &value, &text, &view))
        return NULL;
    struct aggregator *core = glue_core(self);
    bool latest = core && aggregator_row(core, slot, time, quality, &value, number);
    if (tag >= VALUE_STRING)
        PyBuffer_Release(&view);
    return core ? PyBool_FromLong(latest) : NULL;
}

static PyObject *settle(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct aggregator *core = glue_core(self);
    if (core)
        aggregator_settle(core);
    return core ? Py_NewRef(Py_None) : NULL;
}

static PyObject *begin(PyObject *self, PyObject *argument)
{
    uint32_t epoch;
    struct aggregator *core = glue_core(self);
    if (!core || glue_u32(argument, "epoch", &epoch))
        return NULL;
    aggregator_begin(core, epoch);
    return Py_NewRef(Py_None);
}

static PyObject *advance(PyObject *self, PyObject *argument)
{
    int64_t now;
    struct aggregator *core = glue_core(self);
    if (!core || glue_i64(argument, &now))
        return NULL;
    aggregator_advance(core, now);
    return Py_NewRef(Py_None);
}

static PyObject *flush(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct aggregator *core = glue_core(self);
    if (core)
        aggregator_flush(core);
    return core ? Py_NewRef(Py_None) : NULL;
}

/* ---- what comes out ---- */

static int append_records(PyObject *list, const struct stream *stream, uint32_t id)
{
    for (uint32_t i = 0; i < stream_records(stream); i++) {
        const uint8_t *body;
        size_t length;
        uint64_t seq, samples;
        stream_record(stream, i, &body, &length, &seq, &samples);
        PyObject *record = Py_BuildValue("IKKy#", id, (unsigned long long)seq, (unsigned long long)samples,
                                         (const char *)body, (Py_ssize_t)length);
        int failed = !record || PyList_Append(list, record);
        Py_XDECREF(record);
        if (failed)
            return -1;
    }
    return 0;
}

static PyObject *take(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const uint32_t *streams;
    struct aggregator *core = glue_core(self);
    if (!core)
        return NULL;
    ((Aggregator *)self)->lent = 1;
    uint32_t ready = aggregator_ready(core, &streams);
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list && i < ready; i++)
        if (append_records(list, aggregator_stream(core, streams[i]), streams[i]))
            Py_CLEAR(list); /* nothing is taken: they come again */
    if (list)
        aggregator_taken(core);
    ((Aggregator *)self)->lent = 0;
    return list;
}

static PyObject *alarms(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const struct alarm_event *events;
    struct aggregator *core = glue_core(self);
    if (!core)
        return NULL;
    ((Aggregator *)self)->lent = 1;
    uint32_t count = aggregator_events(core, &events);
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list && i < count; i++) {
        const struct alarm_event *at = &events[i];
        PyObject *event = Py_BuildValue("IIOLd", at->slot, at->limit, at->active ? Py_True : Py_False,
                                        (long long)at->time, at->number);
        if (!event || PyList_Append(list, event))
            Py_CLEAR(list);
        Py_XDECREF(event);
    }
    if (list)
        aggregator_events_taken(core);
    ((Aggregator *)self)->lent = 0;
    return list;
}

/* {quality: rows} of the qualities that were seen. */
static PyObject *qualities_of(const struct counts *counted)
{
    PyObject *found = PyDict_New();
    for (int i = 0; found && i < 256; i++) {
        if (!counted->qualities[i])
            continue;
        PyObject *quality = PyLong_FromLong(i), *rows = PyLong_FromUnsignedLongLong(counted->qualities[i]);
        if (!quality || !rows || PyDict_SetItem(found, quality, rows))
            Py_CLEAR(found);
        Py_XDECREF(quality);
        Py_XDECREF(rows);
    }
    return found;
}

static PyObject *counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct aggregator *core = glue_core(self);
    if (!core)
        return NULL;
    const struct counts *counted = aggregator_counts(core);
    PyObject *dropped = PyTuple_New(DROP_COUNT);
    for (Py_ssize_t i = 0; dropped && i < DROP_COUNT; i++)
        if (PyTuple_SetItem(dropped, i, PyLong_FromUnsignedLongLong(counted->dropped[i])))
            Py_CLEAR(dropped);
    if (!dropped)
        return NULL;
    PyObject *qualities = qualities_of(counted);
    if (!qualities) {
        Py_DECREF(dropped);
        return NULL;
    }
    return Py_BuildValue("KKKNN", (unsigned long long)counted->read, (unsigned long long)counted->taken,
                         (unsigned long long)counted->pending, dropped, qualities);
}

static PyObject *pending_bytes(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *bytes;
    GLUE_LOCK(self)
    struct aggregator *core = glue_core(self);
    bytes = core ? PyLong_FromSize_t(aggregator_pending_bytes(core)) : NULL;
    GLUE_UNLOCK
    return bytes;
}

/* The methods as they are called: with the lock held. */
#define LOCKED(function)                                                                                            \
    static PyObject *locked_##function(PyObject *self, PyObject *argument)                                          \
    {                                                                                                               \
        PyObject *result;                                                                                           \
        GLUE_LOCK(self)                                                                                             \
        result = function(self, argument);                                                                          \
        GLUE_UNLOCK                                                                                                 \
        return result;                                                                                              \
    }
#define LOCKED_FAST(function)                                                                                       \
    static PyObject *locked_##function(PyObject *self, PyObject *const *args, Py_ssize_t count)                     \
    {                                                                                                               \
        PyObject *result;                                                                                           \
        GLUE_LOCK(self)                                                                                             \
        result = function(self, args, count);                                                                       \
        GLUE_UNLOCK                                                                                                 \
        return result;                                                                                              \
    }
#define FAST(function) ((PyCFunction)(void (*)(void))(locked_##function))

LOCKED(begin)
LOCKED(glue_define)
LOCKED_FAST(slot_at)
LOCKED(remove_slot)
LOCKED_FAST(push)
LOCKED_FAST(row)
LOCKED(settle)
LOCKED(advance)
LOCKED(flush)
LOCKED(take)
LOCKED(glue_latest)
LOCKED(glue_snapshot)
LOCKED(glue_rows)
LOCKED(alarms)
LOCKED(counts)

static PyMethodDef aggregator_methods[] = {
    {"begin", locked_begin, METH_O, "Streams that come from now on have this epoch."},
    {"define", locked_glue_define, METH_VARARGS, "Define a slot, or change its rules."},
    {"slot_at", FAST(slot_at), METH_FASTCALL, "The slot of a stream's property, or None."},
    {"remove", locked_remove_slot, METH_O, "Close a slot's windows and forget it; False if there is none."},
    {"push", FAST(push), METH_FASTCALL, "Take a batch of numbers: slot, time_ns, value, quality."},
    {"row", FAST(row), METH_FASTCALL, "Take one row: slot, time_ns, quality, tag, value, number."},
    {"settle", locked_settle, METH_NOARGS, "Close what the rows since the last settle ended."},
    {"advance", locked_advance, METH_O, "Close the windows that the clock ends."},
    {"flush", locked_flush, METH_NOARGS, "Close every open window."},
    {"take", locked_take, METH_NOARGS, "The records that wait, as (stream, seq, samples, body)."},
    {"latest", locked_glue_latest, METH_O, "(time_ns, value, quality, is_text) of a slot, or None before its first row."},
    {"snapshot", locked_glue_snapshot, METH_O, "(qualities, newest good time, JSON or None) of a column of slots."},
    {"rows", locked_glue_rows, METH_O, "Rows ever pushed for a slot."},
    {"alarms", locked_alarms, METH_NOARGS, "Events since the last call, as (slot, limit, active, time_ns, number)."},
    {"counts", locked_counts, METH_NOARGS, "(read, taken, pending, dropped by policy, {quality: rows})."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef aggregator_properties[] = {
    {"pending_bytes", pending_bytes, NULL, "Bytes of records and open windows.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot aggregator_slots[] = {
    {Py_tp_doc, "Aggregator(epoch, max_pending_bytes)\n--\n\nAll series of one runtime; see aggregate.h."},
    {Py_tp_new, aggregator_new_object},
    {Py_tp_dealloc, aggregator_dealloc},
    {Py_tp_methods, aggregator_methods},
    {Py_tp_getset, aggregator_properties},
    {0, NULL},
};
PyType_Spec aggregator_spec = {"devicemesh._core._native.Aggregator", sizeof(Aggregator), 0, Py_TPFLAGS_DEFAULT,
                               aggregator_slots};
