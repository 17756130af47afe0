/* Tables as bytes, as Python sees them: columns are (name, type, values). A type is one of rows.h, whose values are a
 * buffer, or of texts a tuple of str; or SERIES, whose values are (a buffer of u32, the tuple of str that they index). */
#include <stdlib.h>

#include "glue_columns.h"
#include "glue_parts.h"
#include "windows/rows.h"

enum { SERIES = COLUMN_TYPES };
enum { WITHOUT_GIL = 256 }; /* rows from which on other threads may run meanwhile */

/* A table and all that it borrows from. */
struct held_table {
    struct table table;
    struct column *columns;
    PyObject **owners;   /* of every column: its tuple, which keeps the name and the values */
    Py_buffer *views;    /* of columns of numbers; `obj` is NULL for texts */
    struct text **texts; /* of columns of texts */
};

static int hold_text(PyObject *object, const char *what, struct text *text)
{
    Py_ssize_t length;
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s is not a str", what);
        return -1;
    }
    const char *bytes = PyUnicode_AsUTF8AndSize(object, &length);
    if (!bytes)
        return -1;
    *text = (struct text){(const uint8_t *)bytes, (size_t)length};
    return 0;
}

/* A tuple of str, which can't change. */
static int hold_texts(PyObject *values, size_t rows, struct column *column, struct text **texts)
{
    if (!PyTuple_Check(values)) {
        PyErr_SetString(PyExc_TypeError, "columns: a column of texts is a tuple");
        return -1;
    }
    if ((size_t)PyTuple_Size(values) != rows) {
        PyErr_Format(PyExc_ValueError, "columns: %zd texts where there are %zu rows", PyTuple_Size(values), rows);
        return -1;
    }
    *texts = calloc(rows + 1, sizeof **texts);
    if (!*texts) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < rows; i++)
        if (hold_text(PyTuple_GetItem(values, (Py_ssize_t)i), "columns: a text", &(*texts)[i]))
            return -1;
    column->values = (const uint8_t *)*texts;
    return 0;
}

static int hold_numbers(PyObject *values, size_t rows, struct column *column, Py_buffer *view)
{
    static const char *const formats[] = {"B", "IL", "ql", "QL", "d", "ql"};
    if (glue_column(values, view, "columns", formats[column->type], column_sizes[column->type], (Py_ssize_t)rows))
        return -1;
    column->values = view->buf ? view->buf : (const uint8_t *)"";
    return 0;
}

/* The name of every row's series. */
static int name_series(const Py_buffer *ids, PyObject *names, struct text *texts, size_t rows)
{
    Py_ssize_t count = PyTuple_Size(names);
    for (size_t i = 0; i < rows; i++) {
        uint32_t id;
        memcpy(&id, (const char *)ids->buf + i * sizeof id, sizeof id);
        if ((Py_ssize_t)id >= count) {
            PyErr_Format(PyExc_ValueError, "names: series %lu has none", (unsigned long)id);
            return -1;
        }
        if (hold_text(PyTuple_GetItem(names, (Py_ssize_t)id), "names: a name", &texts[i]))
            return -1;
    }
    return 0;
}

static int hold_series(PyObject *values, size_t rows, struct column *column, struct text **texts)
{
    Py_buffer ids;
    if (!PyTuple_Check(values) || PyTuple_Size(values) != 2 || !PyTuple_Check(PyTuple_GetItem(values, 1))) {
        PyErr_SetString(PyExc_TypeError, "columns: a column of series is (ids, a tuple of names)");
        return -1;
    }
    if (glue_column(PyTuple_GetItem(values, 0), &ids, "columns", "IL", sizeof(uint32_t), (Py_ssize_t)rows))
        return -1;
    *texts = calloc(rows + 1, sizeof **texts);
    if (!*texts)
        PyErr_NoMemory();
    int failed = !*texts || name_series(&ids, PyTuple_GetItem(values, 1), *texts, rows);
    PyBuffer_Release(&ids);
    column->values = (const uint8_t *)*texts;
    return failed ? -1 : 0;
}

/* Column number `at`, from (name, type, values). */
static int hold_column(struct held_table *held, size_t at, PyObject *item)
{
    struct column *column = &held->columns[at];
    if (!PyTuple_Check(item) || PyTuple_Size(item) != 3) {
        PyErr_SetString(PyExc_TypeError, "columns: a column is (name, type, values)");
        return -1;
    }
    long type = PyLong_AsLong(PyTuple_GetItem(item, 1));
    if (type == -1 && PyErr_Occurred())
        return -1;
    if (type < 0 || type > SERIES) {
        PyErr_SetString(PyExc_ValueError, "columns: there is no such type");
        return -1;
    }
    column->type = type == SERIES ? COLUMN_TEXT : (enum column_type)type;
    held->owners[at] = Py_NewRef(item);
    PyObject *values = PyTuple_GetItem(item, 2);
    if (hold_text(PyTuple_GetItem(item, 0), "columns: a name", &column->name))
        return -1;
    if (type == SERIES)
        return hold_series(values, held->table.rows, column, &held->texts[at]);
    if (type == COLUMN_TEXT)
        return hold_texts(values, held->table.rows, column, &held->texts[at]);
    return hold_numbers(values, held->table.rows, column, &held->views[at]);
}

static int hold_table(struct held_table *held, PyObject *columns, PyObject *rows)
{
    *held = (struct held_table){0};
    Py_ssize_t count = PySequence_Size(columns), wanted = PyLong_AsSsize_t(rows);
    if (count < 0 || (wanted == -1 && PyErr_Occurred()))
        return -1;
    if (wanted < 0) {
        PyErr_SetString(PyExc_ValueError, "rows is negative");
        return -1;
    }
    size_t size = (size_t)count;
    held->columns = calloc(size + 1, sizeof *held->columns);
    held->owners = calloc(size + 1, sizeof *held->owners);
    held->views = calloc(size + 1, sizeof *held->views);
    held->texts = calloc(size + 1, sizeof *held->texts);
    held->table = (struct table){held->columns, size, (size_t)wanted};
    if (!held->columns || !held->owners || !held->views || !held->texts) {
        held->table.columns_count = 0;
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        PyObject *item = PySequence_GetItem(columns, (Py_ssize_t)i);
        int failed = !item || hold_column(held, i, item);
        Py_XDECREF(item);
        if (failed)
            return -1;
    }
    return 0;
}

static void release_table(struct held_table *held)
{
    for (size_t i = 0; i < held->table.columns_count; i++) {
        if (held->views[i].obj)
            PyBuffer_Release(&held->views[i]);
        free(held->texts[i]);
        Py_XDECREF(held->owners[i]);
    }
    free(held->columns);
    free(held->owners);
    free(held->views);
    free(held->texts);
}

/* What is asked for: one of the writers, with what it needs. */
struct order {
    enum rows_status (*write)(const struct table *table, struct buffer *out);
    struct text measurement; /* of rows_line, if there is no `write` */
    size_t stamp;
};

static enum rows_status carry_out(const struct order *order, const struct table *table, struct buffer *out)
{
    if (order->write)
        return order->write(table, out);
    return rows_line(table, order->measurement, order->stamp, out);
}

static PyObject *encoded(const struct order *order, const struct table *table)
{
    struct buffer out = {0};
    enum rows_status status = ROWS_NO_MEMORY;
    if (table->rows < WITHOUT_GIL) {
        status = carry_out(order, table, &out);
    } else {
        Py_BEGIN_ALLOW_THREADS
        status = carry_out(order, table, &out);
        Py_END_ALLOW_THREADS
    }
    PyObject *bytes = NULL;
    if (status == ROWS_DONE)
        bytes = PyBytes_FromStringAndSize((const char *)out.bytes, (Py_ssize_t)out.length);
    else if (status == ROWS_NO_MEMORY)
        PyErr_NoMemory();
    else
        PyErr_SetString(PyExc_ValueError, "line protocol has no way to write an empty name, a control character, a "
                                          "backslash at the end, or a measurement that starts with #");
    buffer_clear(&out, 0);
    return bytes;
}

static PyObject *encode_json(PyObject *const *args, Py_ssize_t count,
                             enum rows_status (*write)(const struct table *, struct buffer *))
{
    struct held_table held;
    struct order order = {.write = write};
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "takes columns and rows");
        return NULL;
    }
    PyObject *bytes = hold_table(&held, args[0], args[1]) ? NULL : encoded(&order, &held.table);
    release_table(&held);
    return bytes;
}

PyObject *glue_json_objects(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    return encode_json(args, count, rows_json_objects);
}

PyObject *glue_json_arrays(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    return encode_json(args, count, rows_json_arrays);
}

PyObject *glue_line(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    struct held_table held;
    struct order order = {0};
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "takes columns, rows, measurement and stamp");
        return NULL;
    }
    order.stamp = PyLong_AsSize_t(args[3]);
    if ((order.stamp == (size_t)-1 && PyErr_Occurred()) || hold_text(args[2], "measurement", &order.measurement))
        return NULL;
    PyObject *bytes = NULL;
    if (!hold_table(&held, args[0], args[1])) {
        if (order.stamp < held.table.columns_count && held.columns[order.stamp].type == COLUMN_TIME)
            bytes = encoded(&order, &held.table);
        else
            PyErr_SetString(PyExc_ValueError, "stamp is not a column of times");
    }
    release_table(&held);
    return bytes;
}
