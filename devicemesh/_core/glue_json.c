/* encode_json as Python sees it. */
#include "glue.h"
#include "json.h"

/* Borrow the UTF-8 of every name; they live as long as the strings in `list`. */
static int borrow_names(PyObject *list, struct text *names, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyList_GetItem(list, i);
        Py_ssize_t length;
        const char *bytes = name ? PyUnicode_AsUTF8AndSize(name, &length) : NULL;
        if (!bytes)
            return -1;
        names[i] = (struct text){(const uint8_t *)bytes, (size_t)length};
    }
    return 0;
}

static PyObject *payload(enum json_status status, const struct buffer *out)
{
    switch (status) {
    case JSON_DONE:
        return PyBytes_FromStringAndSize((const char *)out->bytes, (Py_ssize_t)out->length);
    case JSON_NO_MEMORY:
        return PyErr_NoMemory();
    case JSON_UNNAMED:
        PyErr_SetString(PyExc_ValueError, "the record has a property that has no name");
        return NULL;
    default:
        PyErr_SetString(PyExc_ValueError, "the bytes are not a record");
        return NULL;
    }
}

PyObject *glue_encode_json(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Py_buffer body;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "encode_json takes a body and names");
        return NULL;
    }
    /* A copy, unless it is a list: nobody may change it while we hold its strings. */
    PyObject *list = PyList_Check(args[1]) ? Py_NewRef(args[1]) : PySequence_List(args[1]);
    if (!list)
        return NULL;
    PyObject *result = NULL;
    Py_ssize_t names_count = PyList_Size(list);
    struct text *names = PyMem_Calloc((size_t)names_count + 1, sizeof *names);
    if (!names) {
        PyErr_NoMemory();
    } else if (!borrow_names(list, names, names_count) && !PyObject_GetBuffer(args[0], &body, PyBUF_SIMPLE)) {
        struct buffer out = {0};
        result = payload(json_encode(&out, body.buf, (size_t)body.len, names, (size_t)names_count), &out);
        buffer_clear(&out, 0);
        PyBuffer_Release(&body);
    }
    PyMem_Free(names);
    Py_DECREF(list);
    return result;
}
