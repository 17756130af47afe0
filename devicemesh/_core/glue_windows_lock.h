/* One window engine as a Python object, and its lock. */
#ifndef DEVICEMESH_GLUE_WINDOWS_LOCK_H
#define DEVICEMESH_GLUE_WINDOWS_LOCK_H

#include "glue.h"
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

/* Between `enter` and `leave` no Python object is made and no Python code runs. */
#ifdef Py_GIL_DISABLED
static inline void windows_enter(Windows *self)
{
    PyMutex_Lock(&self->mutex);
}

static inline void windows_leave(Windows *self)
{
    PyMutex_Unlock(&self->mutex);
}

static inline void windows_enter_rows(Windows *self)
{
    PyMutex_Lock(&self->mutex);
}

static inline void windows_leave_rows(Windows *self)
{
    PyMutex_Unlock(&self->mutex);
}
#else
static inline void windows_enter(Windows *self)
{
    while (self->busy) {
        Py_BEGIN_ALLOW_THREADS
        PyThread_acquire_lock(self->gate, WAIT_LOCK);
        PyThread_release_lock(self->gate);
        Py_END_ALLOW_THREADS
    }
}

static inline void windows_leave(Windows *Py_UNUSED(self))
{
}

static inline void windows_enter_rows(Windows *self)
{
    windows_enter(self);
    self->busy = 1;
    PyThread_acquire_lock(self->gate, WAIT_LOCK);
}

static inline void windows_leave_rows(Windows *self)
{
    self->busy = 0;
    PyThread_release_lock(self->gate);
}
#endif

/* As between windows_enter and windows_leave, and the GIL is released. */
#define WINDOWS_BEGIN_ROWS(self)                                                                                       \
    {                                                                                                                  \
        windows_enter_rows(self);                                                                                      \
        Py_BEGIN_ALLOW_THREADS
#define WINDOWS_END_ROWS(self)                                                                                         \
    Py_END_ALLOW_THREADS windows_leave_rows(self);                                                                     \
    }

#endif
