/* Between Python and the core: the only headers and sources here that know Python.h. */
#ifndef DEVICEMESH_GLUE_H
#define DEVICEMESH_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct module_state {
    PyObject *array_type; /* array.array */
    PyObject *plan_type;
    PyObject *aggregator_type;
    PyObject *windows_type;
    PyObject *column_type;
};

extern PyType_Spec plan_spec;
extern PyType_Spec aggregator_spec;

struct aggregator;

/* The core, or NULL with an exception when a finalizer calls in while its content is lent. */
struct aggregator *glue_core(PyObject *self);

/* Methods of Aggregator: define, and the last values. */
PyObject *glue_define(PyObject *self, PyObject *args);
PyObject *glue_latest(PyObject *self, PyObject *argument);
PyObject *glue_snapshot(PyObject *self, PyObject *argument);
PyObject *glue_rows(PyObject *self, PyObject *argument);

/* encode_json(body, names) */
PyObject *glue_encode_json(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* encode_sparkplug(body, metrics, names, first_alias, late, now_ms) */
PyObject *glue_encode_sparkplug(PyObject *module, PyObject *args);

#endif
