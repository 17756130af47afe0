/* Python's numbers and buffers as the core's columns. */
#ifndef DEVICEMESH_GLUE_COLUMNS_H
#define DEVICEMESH_GLUE_COLUMNS_H

#include "aggregate.h"
#include "glue.h"

/* Arguments; -1 with an exception when they are not what is wanted. */
int glue_u32(PyObject *object, const char *what, uint32_t *out);
int glue_i64(PyObject *object, int64_t *out);
int glue_quality(PyObject *object, uint8_t *out);

/* A buffer of `count` items (any number if negative) whose format is one of `formats`. */
int glue_column(PyObject *object, Py_buffer *view, const char *what, const char *formats, Py_ssize_t itemsize,
                Py_ssize_t count);

/* One batch's buffers, held while it is read. */
struct held {
    Py_buffer views[4];
    int count;
};

/* Look at (slot, time_ns, value, quality) as columns of equal length. 0, or -1 with an exception set; in either
 * case what is held must be released. */
int fill_columns(struct held *held, PyObject *const *args, struct columns *columns);
void release_columns(struct held *held);

#endif
