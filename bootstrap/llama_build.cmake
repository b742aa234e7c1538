# CMake includes this after llama-cpp-python's `project()`, before its other commands. It leaves out
# what this server does not use and what would be half of the compiling: llama.cpp's library for
# programs, and the one for pictures and sound.
set(LLAMA_BUILD_COMMON OFF)
set(LLAVA_BUILD OFF)
