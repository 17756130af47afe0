/* The extension module: registration only. The core itself never sees Python. */
#include "glue_parts.h"
#include "glue_windows.h"
#include "glue_windows_out.h"

static PyObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddType(module, (PyTypeObject *)type))
        Py_CLEAR(type);
    return type;
}

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
    state->plan_type = add_type(module, &plan_spec);
    state->aggregator_type = add_type(module, &aggregator_spec);
    state->windows_type = add_type(module, &windows_spec);
    state->column_type = add_type(module, &column_spec);
    if (!state->plan_type || !state->aggregator_type || !state->windows_type || !state->column_type)
        return -1;
    return glue_parts(module);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);
    Py_VISIT(state->array_type);
    Py_VISIT(state->plan_type);
    Py_VISIT(state->aggregator_type);
    Py_VISIT(state->windows_type);
    Py_VISIT(state->column_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->array_type);
    Py_CLEAR(state->plan_type);
    Py_CLEAR(state->aggregator_type);
    Py_CLEAR(state->windows_type);
    Py_CLEAR(state->column_type);
    return 0;
}

PyDoc_STRVAR(encode_json_doc, "encode_json(body, names, /)\n--\n\nA record's body as a JSON payload. Raises ValueError "
                              "for bytes that are no record, or a property without a name.");

PyDoc_STRVAR(encode_sparkplug_doc, "encode_sparkplug(body, metrics, names, first_alias, late, now_ms, /)\n--\n\n"
                                   "A record's body as a Sparkplug payload; None where its readable twin is to do it.");

static PyMethodDef module_methods[] = {
    {"encode_json", (PyCFunction)(void (*)(void))glue_encode_json, METH_FASTCALL, encode_json_doc},
    {"encode_sparkplug", glue_encode_sparkplug, METH_VARARGS, encode_sparkplug_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The C core of DeviceMesh.",
    .m_size = sizeof(struct module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module_def);
}
