# etl_module(NAME base SOURCES a.cc b.cc DEPS model LIBS fmt::fmt TESTS a_test.cc TEST_LIBS ...)
#
# One folder of src/ is one static library `etl_<name>`. DEPS are other folders, on a lower layer only: anything else
# stops the configure step. TESTS become one program `<name>_test`.
set(ETL_LAYERS
  base=0
  model=1 runtime=1 telemetry=1 config=1
  net=2 decode=2 postgres=2
  batch=3 catalog=3
  destination=4
  destination_null=5 destination_duckdb=5 destination_snowflake=5 apply=5
  pipeline=6
  control=7 ops=7
  app=8)

function(etl_layer_of name out)
  foreach(entry IN LISTS ETL_LAYERS)
    if(entry MATCHES "^${name}=([0-9]+)$")
      set(${out} ${CMAKE_MATCH_1} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "folder '${name}' has no layer: add it to ETL_LAYERS in cmake/EtlModule.cmake")
endfunction()

add_library(etl_flags INTERFACE)
target_compile_options(etl_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Werror -fno-omit-frame-pointer -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these in inlined standard library code (GCC bugs 105329, 105651).
  target_compile_options(etl_flags INTERFACE -Wno-restrict -Wno-maybe-uninitialized -Wno-stringop-overflow)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Builds for fuzzing: g++ is the compiler that decides about warnings, and its -Wconversion says less.
  target_compile_options(etl_flags INTERFACE -Wno-sign-conversion -Wno-implicit-int-float-conversion -Wno-error)
endif()
target_include_directories(etl_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_include_directories(etl_flags SYSTEM INTERFACE ${ETL_DEPS_DIR}/arrow/include)
if(ETL_FAILPOINTS)
  target_compile_definitions(etl_flags INTERFACE ETL_FAILPOINTS=1)
endif()
# A test's own code is compiled quickly rather than well: it is half of all code, and not what is shipped or measured.
set(quick $<BOOL:$<TARGET_PROPERTY:ETL_QUICK_COMPILE>>)
if(ETL_SANITIZE)
  target_compile_options(etl_flags INTERFACE -fsanitize=${ETL_SANITIZE} -g1 -fno-sanitize-recover=all $<IF:${quick},-O0,-O1>)
  if(NOT ETL_FUZZ AND ETL_SANITIZE MATCHES undefined)
    # They take a third of the compile time, and of most faults AddressSanitizer sees what follows; the fuzzers have them.
    target_compile_options(etl_flags INTERFACE -fno-sanitize=null,alignment,object-size,vptr)
  endif()
  target_link_options(etl_flags INTERFACE -fsanitize=${ETL_SANITIZE})
  if(ETL_FUZZ)
    target_compile_options(etl_flags INTERFACE -fsanitize=fuzzer-no-link)
  endif()
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(etl_flags INTERFACE "$<IF:${quick},-O0;-U_FORTIFY_SOURCE,-O2;-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>"
    -D_GLIBCXX_ASSERTIONS -fstack-protector-strong -fstack-clash-protection)
  target_link_options(etl_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "")

function(etl_module)
  cmake_parse_arguments(M "" "NAME" "SOURCES;DEPS;LIBS;TESTS;TEST_DEPS;TEST_LIBS" ${ARGN})
  etl_layer_of(${M_NAME} own)
  foreach(dep IN LISTS M_DEPS)
    etl_layer_of(${dep} theirs)
    if(NOT theirs LESS own)
      message(FATAL_ERROR "layers: '${M_NAME}' (layer ${own}) may not use '${dep}' (layer ${theirs})")
    endif()
  endforeach()
  if(NOT M_SOURCES)
    set(M_SOURCES ${CMAKE_SOURCE_DIR}/cmake/empty.cc)
  endif()
  list(TRANSFORM M_DEPS PREPEND etl_)
  add_library(etl_${M_NAME} STATIC ${M_SOURCES})
  target_link_libraries(etl_${M_NAME} PUBLIC etl_flags ${M_DEPS} ${M_LIBS})
  if(M_TESTS)
    etl_test(${M_NAME}_test SOURCES ${M_TESTS} DEPS ${M_NAME} ${M_TEST_DEPS} LIBS ${M_TEST_LIBS})
  endif()
endfunction()

# etl_test(name SOURCES x_test.cc DEPS folders LIBS targets): a GoogleTest program, run by `ctest` and tools/run_tests.
function(etl_test name)
  cmake_parse_arguments(T "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  list(TRANSFORM T_DEPS PREPEND etl_)
  add_executable(${name} ${T_SOURCES})
  target_link_libraries(${name} PRIVATE ${T_DEPS} ${T_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests ETL_QUICK_COMPILE ON)
  add_test(NAME ${name} COMMAND ${name})
endfunction()

# etl_fuzz(name SOURCES x_fuzz.cc DEPS folders LIBS targets): a libFuzzer program, run by tools/fuzz.
function(etl_fuzz name)
  cmake_parse_arguments(F "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  list(TRANSFORM F_DEPS PREPEND etl_)
  add_executable(${name} ${F_SOURCES})
  target_link_libraries(${name} PRIVATE ${F_DEPS} ${F_LIBS})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzzers)
  if(NOT TARGET fuzz_targets)
    add_custom_target(fuzz_targets)
  endif()
  add_dependencies(fuzz_targets ${name})
endfunction()
