// A call from XLA: its arrays, its attributes, and the threads that it may use.
//
// XLA's header for C++ does all of this and much more, but takes longer to compile than
// a cell's steps. Its header for C, which lies below it, takes no time.

#include <algorithm>
#include <cstdint>

#include "xla/ffi/api/c_api.h"

namespace {

// Where an array lies, `data`, and its shape, `dims` of `rank` axes.
using Array = XLA_FFI_Buffer;

// The size of an axis: 1 is the last, 2 the one before it.
inline int64_t FromLast(const Array& array, int64_t axis) {
  return array.dims[array.rank - axis];
}

// How many numbers an array has.
inline int64_t Count(const Array& array) {
  int64_t count = 1;
  for (int64_t axis = 0; axis < array.rank; ++axis) count *= array.dims[axis];
  return count;
}

class Call {
 public:
  explicit Call(const XLA_FFI_CallFrame& frame) : frame_(frame) {}

  const Array& argument(int64_t n) const {
    return *static_cast<const Array*>(frame_.args.args[n]);
  }
  const Array& result(int64_t n) const {
    return *static_cast<const Array*>(frame_.rets.rets[n]);
  }

  // An attribute that is true or false. XLA sorts attributes by name.
  bool flag(int64_t n) const {
    const auto* scalar = static_cast<const XLA_FFI_Scalar*>(frame_.attrs.attrs[n]);
    return *static_cast<const bool*>(scalar->value);
  }

  // How many threads the pool has; 1 without a pool, which is the caller's.
  int64_t threads() const {
    int64_t count = 0;
    XLA_FFI_ThreadPool_NumThreads_Args asked{
        XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, nullptr, frame_.ctx, &count};
    Failed(frame_.api->XLA_FFI_ThreadPool_NumThreads(&asked));
    return std::max(count, int64_t{1});
  }

  // Calls a copy of `run` on a thread of the pool, once one is free; never if there is no
  // pool, so that the caller has to do without.
  template <typename Run>
  void Schedule(const Run& run) const {
    auto task = [](void* data) {
      Run* run = static_cast<Run*>(data);
      (*run)();
      delete run;
    };
    Run* copy = new Run(run);
    XLA_FFI_ThreadPool_Schedule_Args asked{XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE,
                                           nullptr, frame_.ctx, task, copy};
    if (Failed(frame_.api->XLA_FFI_ThreadPool_Schedule(&asked))) delete copy;
  }

 private:
  // Whether there is an error, which is then forgotten.
  bool Failed(XLA_FFI_Error* error) const {
    if (!error) return false;
    XLA_FFI_Error_Destroy_Args forgotten{XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, nullptr,
                                         error};
    frame_.api->XLA_FFI_Error_Destroy(&forgotten);
    return true;
  }

  const XLA_FFI_CallFrame& frame_;
};

// How many arrays and attributes a function takes.
struct Signature {
  int64_t arguments, results, attributes;
};

inline XLA_FFI_Error* Refused(const XLA_FFI_CallFrame& frame, const char* why) {
  XLA_FFI_Error_Create_Args error{XLA_FFI_Error_Create_Args_STRUCT_SIZE, nullptr, why,
                                  XLA_FFI_Error_Code_INVALID_ARGUMENT};
  return frame.api->XLA_FFI_Error_Create(&error);
}

constexpr char kOtherVersion[] = "lstm_jax: compiled for another version of XLA";

// Says which version of XLA's interface a function was compiled for.
inline XLA_FFI_Error* Describe(const XLA_FFI_CallFrame& frame) {
  auto* asked = reinterpret_cast<XLA_FFI_Metadata_Extension*>(frame.extension_start);
  if (asked->extension_base.struct_size < XLA_FFI_Metadata_Extension_STRUCT_SIZE ||
      asked->metadata->struct_size < XLA_FFI_Metadata_STRUCT_SIZE) {
    return Refused(frame, kOtherVersion);
  }
  asked->metadata->api_version = {XLA_FFI_Api_Version_STRUCT_SIZE, nullptr,
                                  XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR};
  asked->metadata->traits = 0;
  return nullptr;
}

// What XLA calls a function by: to have it described, when it is registered, and later to
// run it.
inline XLA_FFI_Error* Handle(const XLA_FFI_CallFrame& frame, const Signature& signature,
                             void (*run)(const Call&)) {
  if (frame.struct_size != XLA_FFI_CallFrame_STRUCT_SIZE) {
    return Refused(frame, kOtherVersion);
  }
  if (frame.extension_start &&
      frame.extension_start->type == XLA_FFI_Extension_Metadata) {
    return Describe(frame);
  }
  if (frame.stage != XLA_FFI_ExecutionStage_EXECUTE) {
    return Refused(frame, "lstm_jax: called before execution");
  }
  if (frame.args.size != signature.arguments || frame.rets.size != signature.results ||
      frame.attrs.size != signature.attributes) {
    return Refused(frame, "lstm_jax: another number of arrays, or of attributes");
  }
  run(Call(frame));
  return nullptr;
}

}  // namespace
