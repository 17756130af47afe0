/* Methods of the window engine that define, and how it refuses. */
#ifndef DEVICEMESH_GLUE_WINDOWS_DEFINE_H
#define DEVICEMESH_GLUE_WINDOWS_DEFINE_H

#include "glue_windows_lock.h"

/* An exception for a status other than ENGINE_DONE; `what` names what `number` is. */
PyObject *windows_refuse(enum engine_status status, const char *what, unsigned long long number);

PyObject *glue_windows_profile(PyObject *object, PyObject *args);
PyObject *glue_windows_define(PyObject *object, PyObject *args);

#endif
