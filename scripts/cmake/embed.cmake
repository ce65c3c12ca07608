# Writes a file's bytes as a C++ header: NAMESPACE::NAME, a std::string_view.
#   cmake -DINPUT=page.html -DOUTPUT=page.hpp -DNAMESPACE=gateway -DNAME=page -P embed.cmake
file(READ "${INPUT}" hex HEX)
string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
file(WRITE "${OUTPUT}" "// Made of ${INPUT} by scripts/cmake/embed.cmake.
#pragma once

#include <string_view>

namespace ${NAMESPACE} {
inline constexpr char ${NAME}_bytes[] = {
${bytes}
};
inline constexpr std::string_view ${NAME}{${NAME}_bytes, sizeof ${NAME}_bytes};
}  // namespace ${NAMESPACE}
")
