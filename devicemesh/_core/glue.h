/* Between Python and the core: the only headers and sources here that know Python.h. */
#ifndef DEVICEMESH_GLUE_H
#define DEVICEMESH_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

struct module_state {
    PyObject *array_type; /* array.array */
    PyObject *plan_type;
    PyObject *aggregator_type;
};

extern PyType_Spec plan_spec;
extern PyType_Spec aggregator_spec;

/* encode_json(body, names) */
PyObject *glue_encode_json(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
