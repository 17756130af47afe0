/* The window engine's type. */
#ifndef DEVICEMESH_GLUE_WINDOWS_H
#define DEVICEMESH_GLUE_WINDOWS_H

#include "glue.h"

extern PyType_Spec windows_spec;

#endif
