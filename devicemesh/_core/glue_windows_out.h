/* Methods of the window engine that hand out what came out, and its state. */
#ifndef DEVICEMESH_GLUE_WINDOWS_OUT_H
#define DEVICEMESH_GLUE_WINDOWS_OUT_H

#include "glue_windows_lock.h"

/* Methods that hand out what came out: columns as (name, Column) pairs. */
PyObject *glue_windows_take(PyObject *object, PyObject *argument);

/* Methods for the state. */
PyObject *glue_windows_state(PyObject *, PyObject *);
PyObject *glue_windows_restore(PyObject *object, PyObject *state);

extern PyType_Spec column_spec;

#endif
