/* The extension module: registration only. The core itself never sees Python. */
#include "glue.h"

static int module_exec(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    PyObject *array = PyImport_ImportModule("array");
    if (!array)
        return -1;
    state->array_type = PyObject_GetAttrString(array, "array");
    Py_DECREF(array);
    if (!state->array_type)
        return -1;
    state->plan_type = PyType_FromModuleAndSpec(module, &plan_spec, NULL);
    if (!state->plan_type)
        return -1;
    return PyModule_AddType(module, (PyTypeObject *)state->plan_type);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);
    Py_VISIT(state->array_type);
    Py_VISIT(state->plan_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->array_type);
    Py_CLEAR(state->plan_type);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The C core of DeviceMesh.",
    .m_size = sizeof(struct module_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module_def);
}
