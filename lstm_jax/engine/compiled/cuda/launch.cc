// Launches a kernel from inside an XLA program: one handler for all kernels.
//
// The driver is found when it is first needed, so this builds with a C++ compiler alone.
// A kernel has one parameter, a struct: the addresses of all arguments, those of all
// results, and the fields of `Sizes` in steps.h.

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

struct CUstream_st;
typedef CUstream_st* CUstream;

namespace {

// --- the driver, as its header declares it --------------------------------------------

constexpr int kMultiprocessors = 16, kSharedBytes = 97;  // CU_DEVICE_ATTRIBUTE_...
constexpr int kMajor = 75, kMinor = 76;
constexpr int kMaxDynamicShared = 8, kNonPortableCluster = 14;  // CU_FUNC_ATTRIBUTE_...
constexpr int kCooperative = 2, kClusterDimension = 4;          // CU_LAUNCH_ATTRIBUTE_...

struct LaunchAttribute {
  int id;
  char padding[4];
  union {
    char bytes[64];
    unsigned dimension[3];
    int flag;
  } value;
};

struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  CUstream stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

struct Driver {
  int (*ModuleLoadData)(void**, const void*);
  int (*ModuleGetFunction)(void**, void*, const char*);
  int (*FuncSetAttribute)(void*, int, int);
  int (*LaunchKernelEx)(const LaunchConfig*, void*, void**, void**);
  int (*CtxGetCurrent)(void**);
  int (*CtxGetDevice)(int*);
  int (*DeviceGet)(int*, int);
  int (*DeviceGetAttribute)(int*, int, int);
  int (*BlocksAtOnce)(int*, void*, int, size_t);
  bool found = false;

  Driver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) return;
    auto get = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    found = get(ModuleLoadData, "cuModuleLoadData") &&
            get(ModuleGetFunction, "cuModuleGetFunction") &&
            get(FuncSetAttribute, "cuFuncSetAttribute") &&
            get(LaunchKernelEx, "cuLaunchKernelEx") &&
            get(CtxGetCurrent, "cuCtxGetCurrent") &&
            get(CtxGetDevice, "cuCtxGetDevice") && get(DeviceGet, "cuDeviceGet") &&
            get(DeviceGetAttribute, "cuDeviceGetAttribute") &&
            get(BlocksAtOnce, "cuOccupancyMaxActiveBlocksPerMultiprocessor");
  }
};

const Driver& TheDriver() {
  static const Driver driver;
  return driver;
}

ffi::Error Failed(const char* what, int code) {
  return ffi::Error(
      ffi::ErrorCode::kInternal,
      std::string("lstm_jax: ") + what + ": CUDA error " + std::to_string(code));
}

// --- images ---------------------------------------------------------------------------

std::mutex mutex;

std::map<std::string, std::string, std::less<>>& Images() {
  static auto* images = new std::map<std::string, std::string, std::less<>>;
  return *images;
}

// The function of an image in the current context, loaded when it is first needed.
ffi::Error Find(const Driver& driver, std::string_view image, int64_t shared_bytes,
                void** function) {
  static auto* functions = new std::map<std::pair<void*, std::string>, void*>;
  void* context = nullptr;
  if (int code = driver.CtxGetCurrent(&context)) return Failed("no context", code);
  std::lock_guard<std::mutex> lock(mutex);
  const auto key = std::make_pair(context, std::string(image));
  const auto known = functions->find(key);
  if (known != functions->end()) {
    *function = known->second;
    return ffi::Error::Success();
  }
  const auto bytes = Images().find(image);
  if (bytes == Images().end()) {
    return ffi::Error(ffi::ErrorCode::kNotFound,
                      "lstm_jax: this process has not compiled the kernel that a program "
                      "made by another wants");
  }
  void* module = nullptr;
  if (int code = driver.ModuleLoadData(&module, bytes->second.data()))
    return Failed("load", code);
  if (int code = driver.ModuleGetFunction(function, module, "run"))
    return Failed("find", code);
  if (int code = driver.FuncSetAttribute(*function, kMaxDynamicShared, shared_bytes))
    return Failed("shared memory", code);
  driver.FuncSetAttribute(*function, kNonPortableCluster,
                          1);  // clusters of 16, if granted
  functions->emplace(key, *function);
  return ffi::Error::Success();
}

// --- launching ------------------------------------------------------------------------

struct Sizes {
  int32_t steps, batch, reverse, first_team;
};

ffi::Error Launch(CUstream stream, ffi::RemainingArgs arguments,
                  ffi::RemainingRets results, std::string_view image,
                  std::string_view form, int64_t blocks, int64_t rows, int64_t threads,
                  int64_t shared_bytes, int64_t heads, bool reverse) {
  const Driver& driver = TheDriver();
  if (!driver.found)
    return ffi::Error(ffi::ErrorCode::kUnavailable, "lstm_jax: no libcuda.so.1");
  void* function = nullptr;
  if (ffi::Error error = Find(driver, image, shared_bytes, &function); error.failure())
    return error;

  // The first argument is a sequence, (..., T, B, N): axes before T are problems.
  const auto shape = arguments.get<ffi::AnyBuffer>(0)->dimensions();
  const size_t rank = shape.size();
  int64_t problems = 1;
  for (size_t axis = 0; axis + 3 < rank; ++axis) problems *= shape[axis];
  const int64_t steps = shape[rank - 3], batch = shape[rank - 2];
  const int64_t teams = problems * heads * ((batch + rows - 1) / rows);
  if (teams == 0 || steps == 0) return ffi::Error::Success();
  if (problems * steps * batch >= int64_t{1} << 32) {
    return ffi::Error(ffi::ErrorCode::kInvalidArgument,
                      "lstm_jax: kernels take fewer than 2^32 steps of all sequences");
  }

  std::vector<char> parameter;
  auto append = [&](const auto& field) {
    const char* bytes = reinterpret_cast<const char*>(&field);
    parameter.insert(parameter.end(), bytes, bytes + sizeof field);
  };
  for (size_t i = 0; i < arguments.size(); ++i)
    append(static_cast<const void*>(arguments.get<ffi::AnyBuffer>(i)->untyped_data()));
  for (size_t i = 0; i < results.size(); ++i)
    append(static_cast<const void*>((*results.get<ffi::AnyBuffer>(i))->untyped_data()));
  Sizes sizes{int32_t(steps), int32_t(batch), reverse, 0};
  const size_t sizes_at = parameter.size();
  append(sizes);
  parameter.resize((parameter.size() + 7) / 8 * 8);  // as C++ pads a struct of addresses

  // All blocks of a grid that wait for each other must run at once.
  int64_t at_once = teams;
  LaunchAttribute attribute{};
  if (form == "CLUSTER") {
    attribute.id = kClusterDimension;
    attribute.value.dimension[0] = blocks;
    attribute.value.dimension[1] = attribute.value.dimension[2] = 1;
  } else if (form == "GRID") {
    attribute.id = kCooperative;
    attribute.value.flag = 1;
    int device = 0, processors = 0, each = 0;
    if (int code = driver.CtxGetDevice(&device)) return Failed("device", code);
    if (int code = driver.DeviceGetAttribute(&processors, kMultiprocessors, device))
      return Failed("device", code);
    if (int code = driver.BlocksAtOnce(&each, function, threads, shared_bytes))
      return Failed("occupancy", code);
    at_once = int64_t{each} * processors / blocks;
    if (at_once == 0) {
      return ffi::Error(ffi::ErrorCode::kInternal,
                        "lstm_jax: the grid is larger than the device");
    }
  }
  for (int64_t first = 0; first < teams; first += at_once) {
    sizes.first_team = first;
    std::memcpy(parameter.data() + sizes_at, &sizes, sizeof sizes);
    LaunchConfig config{};
    config.grid[0] = std::min(at_once, teams - first) * blocks;
    config.grid[1] = config.grid[2] = 1;
    config.block[0] = threads;
    config.block[1] = config.block[2] = 1;
    config.shared_bytes = shared_bytes;
    config.stream = stream;
    config.attributes = &attribute;
    config.attribute_count = form == "BLOCK" ? 0 : 1;
    void* parameters[] = {parameter.data()};
    if (int code = driver.LaunchKernelEx(&config, function, parameters, nullptr))
      return Failed("launch", code);
  }
  return ffi::Error::Success();
}

}  // namespace

// Compute capability, multiprocessors, and the shared memory that a block can have.
extern "C" int lstm_jax_device(int ordinal, int* found) {
  const Driver& driver = TheDriver();
  if (!driver.found) return -1;
  int device = 0;
  if (int code = driver.DeviceGet(&device, ordinal)) return code;
  for (const int attribute : {kMajor, kMinor, kMultiprocessors, kSharedBytes}) {
    if (int code = driver.DeviceGetAttribute(found++, attribute, device)) return code;
  }
  return 0;
}

extern "C" void lstm_jax_add_image(const char* name, const char* bytes, size_t size) {
  std::lock_guard<std::mutex> lock(mutex);
  Images().emplace(name, std::string(bytes, size));
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_jax_launch, Launch,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::PlatformStream<CUstream>>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<std::string_view>("image")
                                  .Attr<std::string_view>("form")
                                  .Attr<int64_t>("blocks")
                                  .Attr<int64_t>("rows")
                                  .Attr<int64_t>("threads")
                                  .Attr<int64_t>("shared_bytes")
                                  .Attr<int64_t>("heads")
                                  .Attr<bool>("reverse"),
                              {ffi::Traits::kCmdBufferCompatible});
