/* What of the core stands beside the aggregators: sketches, folds, tables as bytes. */
#ifndef DEVICEMESH_GLUE_PARTS_H
#define DEVICEMESH_GLUE_PARTS_H

#include "glue.h"

extern PyType_Spec sketch_spec;

/* fold_dense(values) */
PyObject *glue_fold_dense(PyObject *module, PyObject *values);

/* encode_json_objects(columns, rows), encode_json_arrays(columns, rows), encode_line(columns, rows, measurement, stamp) */
PyObject *glue_json_objects(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *glue_json_arrays(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *glue_line(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* Add all of these to the module. 0, or -1 with an exception. */
int glue_parts(PyObject *module);

#endif
