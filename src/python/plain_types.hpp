// What is known of types, so that most objects need no Python code of ours on their way: whose objects pickle
// sends without our help, and which of them are nothing but a class, its name and attributes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "state.hpp"

namespace memchannel {

// Of a type in the interpreter that sends. Strings only: nothing here keeps a type alive.
struct SentType {
    unsigned version = 0;   // of the type when this was found out; CPython gives a new one for each change
    bool ordinary = false;  // pickle needs no help with its objects
    bool plain = false;     // and they are what object.__reduce_ex__ makes of a class, attributes and slots
    bool has_dict = false;
    Ref module;
    Ref name;
    Ref registered_name;    // as memchannel.sharing has it
    std::string reference;  // module and name in UTF-8, a zero between them
    std::vector<Ref> slots;
};

// Of a class in the interpreter that receives.
struct ReceivedType {
    PyTypeObject* type = nullptr;  // to be compared only: it may be gone
    unsigned version = 0;
    bool plain = false;  // made by object.__new__, and filled through its __dict__
    bool has_dict = false;
    Ref module;
    Ref name;
    std::vector<Ref> keys;  // of the attributes of the last object
};

struct KnownTypes;
void forget_types(KnownTypes* known) noexcept;

// What is known of the type; nullptr: nothing, or it has changed since. Runs no Python code.
const SentType* known_type(const ModuleState& state, PyTypeObject* type) noexcept;
// Finds out about the type. Runs Python code. False: CPython gives it no version, so nothing can be kept.
bool learn_type(ModuleState& state, PyTypeObject* type);
// Whether memchannel.register() has, or may have, a say in objects of a known type. Runs no Python code.
bool may_be_registered(const ModuleState& state, const SentType& known, PyTypeObject* type) noexcept;
// Whether pickle would send a plain object of the type as what it is: the class is found where it says that
// it is, and copyreg has nothing on it. Runs no Python code.
bool is_sent_plainly(const ModuleState& state, const SentType& known, PyTypeObject* type) noexcept;

// The class of that name here, as pickle finds it. `known` is empty if it needs pickle's way.
struct FoundClass {
    Ref object;
    std::shared_ptr<ReceivedType> known;
};
FoundClass find_class(ModuleState& state, std::string_view reference);
// An object of a class that has its own ways, as pickle makes it.
Ref build(PyObject* kind, PyObject* attributes, PyObject* slots);

// Module function: _leaving_ordinary(reduce) -> a method reducer_override, which calls it for other objects.
PyObject* leaving_ordinary(PyObject* module, PyObject* reduce);

}  // namespace memchannel
