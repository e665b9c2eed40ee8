#pragma once

#include "ref.hpp"

namespace memchannel {

extern PyModuleDef core_module;

}  // namespace memchannel
