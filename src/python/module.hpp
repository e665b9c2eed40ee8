// The definition of the extension module, which types are found by.
#pragma once

#include "ref.hpp"

namespace memchannel {

extern PyModuleDef core_module;

}  // namespace memchannel
