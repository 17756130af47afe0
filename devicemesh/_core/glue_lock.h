/* A lock on one object, where the interpreter has no lock over all of them. Between them: no return, no goto. */
#ifndef DEVICEMESH_GLUE_LOCK_H
#define DEVICEMESH_GLUE_LOCK_H

#include "glue.h"

#ifdef Py_GIL_DISABLED
#define GLUE_LOCK(object) Py_BEGIN_CRITICAL_SECTION(object);
#define GLUE_LOCK_BOTH(a, b) Py_BEGIN_CRITICAL_SECTION2(a, b);
#define GLUE_UNLOCK Py_END_CRITICAL_SECTION()
#define GLUE_UNLOCK_BOTH Py_END_CRITICAL_SECTION2()
#else
#define GLUE_LOCK(object) {
#define GLUE_LOCK_BOTH(a, b) {
#define GLUE_UNLOCK }
#define GLUE_UNLOCK_BOTH }
#endif

#endif
