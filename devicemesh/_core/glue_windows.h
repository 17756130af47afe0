/* Between Python and the window engine. */
#ifndef DEVICEMESH_GLUE_WINDOWS_H
#define DEVICEMESH_GLUE_WINDOWS_H

#include "glue_columns.h"
#include "windows/engine.h"

/* One engine and its lock. Work on many rows goes on without the GIL: `busy` is then set and `gate` held, and who
 * comes meanwhile waits at the gate. Short calls hold the GIL and so need no gate. */
typedef struct {
    PyObject_HEAD
    struct engine *engine;
#ifdef Py_GIL_DISABLED
    PyMutex mutex;
#else
    PyThread_type_lock gate;
    int busy;
#endif
} Windows;

/* Between these no Python object is made and no Python code runs. */
void windows_enter(Windows *self);
void windows_leave(Windows *self);

/* Like them, and the GIL is released in between. */
#define WINDOWS_BEGIN_ROWS(self)                                                                                       \
    {                                                                                                                  \
        windows_enter_rows(self);                                                                                      \
        Py_BEGIN_ALLOW_THREADS
#define WINDOWS_END_ROWS(self)                                                                                         \
    Py_END_ALLOW_THREADS windows_leave_rows(self);                                                                     \
    }
void windows_enter_rows(Windows *self);
void windows_leave_rows(Windows *self);

/* An exception for a status other than ENGINE_DONE; `what` names what `number` is. */
PyObject *windows_refuse(enum engine_status status, const char *what, unsigned long long number);

/* Methods that define. */
PyObject *glue_windows_profile(PyObject *object, PyObject *args);
PyObject *glue_windows_define(PyObject *object, PyObject *args);

/* Methods that hand out what came out: columns as (name, Column) pairs. */
PyObject *glue_windows_take(PyObject *object, PyObject *argument);

/* Methods for the state. */
PyObject *glue_windows_state(PyObject *, PyObject *);
PyObject *glue_windows_restore(PyObject *object, PyObject *state);

extern PyType_Spec column_spec;
extern PyType_Spec windows_spec;

#endif
