# How every target of Ferry is compiled, and ferry_room(), which adds one.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
if(NOT CMAKE_BUILD_TYPE)
	set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

option(FERRY_WERROR "Treat warnings as errors" OFF)
set(FERRY_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize=")
option(FERRY_COVERAGE "Instrument for gcov" OFF)
option(FERRY_ANALYZER "Run gcc's static analyzer" OFF)

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

add_library(ferry_flags INTERFACE)
target_include_directories(ferry_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_definitions(ferry_flags INTERFACE _GNU_SOURCE FERRY_VERSION="${PROJECT_VERSION}")
target_compile_options(ferry_flags INTERFACE
	-Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wvla -Wformat=2 -Wcast-qual
	-Wcast-align -Wundef -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum
	-Wnull-dereference -fstack-protector-strong -fno-omit-frame-pointer)
if(FERRY_WERROR)
	target_compile_options(ferry_flags INTERFACE -Werror)
endif()
if(FERRY_SANITIZE)
	target_compile_options(ferry_flags INTERFACE -fsanitize=${FERRY_SANITIZE}
		-fno-sanitize-recover=all)
	target_link_options(ferry_flags INTERFACE -fsanitize=${FERRY_SANITIZE})
else()
	target_compile_definitions(ferry_flags INTERFACE
		$<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=3>)
endif()
if(FERRY_COVERAGE)
	target_compile_options(ferry_flags INTERFACE --coverage)
	target_link_options(ferry_flags INTERFACE --coverage)
endif()

# ferry_package(NAME PKGCONFIG...): an imported target of a foreign library, its headers SYSTEM.
function(ferry_package name)
	pkg_check_modules(${name} REQUIRED IMPORTED_TARGET GLOBAL ${ARGN})
endfunction()

# ferry_room(NAME SOURCES a.c b.c [LINKS target...] [FOREIGN PkgConfig::x...])
# A static library of one folder. LINKS are rooms of lower or equal rank; FOREIGN are libraries,
# which only rooms of agent/adapters/ and the programs may name.
function(ferry_room name)
	cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS;FOREIGN" ${ARGN})
	add_library(${name} STATIC ${ROOM_SOURCES})
	target_link_libraries(${name} PRIVATE ferry_flags ${ROOM_FOREIGN} PUBLIC ${ROOM_LINKS})
	if(FERRY_ANALYZER) # Not the tests: cmocka's assertions say nothing to it.
		target_compile_options(${name} PRIVATE -fanalyzer)
	endif()
endfunction()

# ferry_test(NAME LABEL label [TIMEOUT seconds] COMMAND command...): a test that is a program or a
# script. Labels: tidy, unit, sim, museum, client (stock clients), cluster (the lab), fuzz, vm (guests;
# `make test-vm`, not `make test`). Cluster and vm tests have the machine for themselves: their
# deadlines are of real time. 77 as exit code means skipped.
function(ferry_test name)
	cmake_parse_arguments(T "" "LABEL;TIMEOUT" "COMMAND" ${ARGN})
	if(NOT T_LABEL MATCHES "^(tidy|unit|sim|museum|client|cluster|fuzz|vm)$")
		message(FATAL_ERROR "ferry_test(${name}): no label '${T_LABEL}'")
	endif()
	if(NOT T_TIMEOUT)
		set(T_TIMEOUT 120)
	endif()
	add_test(NAME ${name} COMMAND ${T_COMMAND})
	set_tests_properties(${name} PROPERTIES LABELS ${T_LABEL} TIMEOUT ${T_TIMEOUT}
		SKIP_RETURN_CODE 77 ENVIRONMENT "FERRY_BUILD_DIR=${CMAKE_BINARY_DIR}")
	if(T_LABEL MATCHES "^(cluster|vm)$")
		set_tests_properties(${name} PROPERTIES RUN_SERIAL TRUE)
	endif()
endfunction()

# ferry_unit_test(NAME SOURCES x_test.c [LINKS ...] [FOREIGN ...]): a cmocka program run by ctest.
function(ferry_unit_test name)
	cmake_parse_arguments(UT "" "" "SOURCES;LINKS;FOREIGN" ${ARGN})
	add_executable(${name} ${UT_SOURCES})
	set_target_properties(${name} PROPERTIES
		RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
	target_link_libraries(${name} PRIVATE
		ferry_flags ${UT_LINKS} ${UT_FOREIGN} PkgConfig::CMOCKA)
	ferry_test(${name} LABEL unit COMMAND ${name})
endfunction()

ferry_package(CMOCKA cmocka)
