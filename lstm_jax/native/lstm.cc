// The sequential part of an LSTM over a stretch of time, forward and back, on CPUs.
//
// The equations are those of lstm_jax/cells/lstm.py, with the same numbers, and the
// masks those of lstm_jax/bptt.py. What makes it faster than a compiled scan: rows of
// the batch do not depend on each other, so each thread takes some of them through all
// steps, with nothing to wait for; the recurrent product and the gates of a step run
// while its numbers are in registers and the first cache.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// --- vectors of 64 bytes, which the compiler splits where the machine's are shorter ---

template <typename T>
struct Vectors;

template <>
struct Vectors<float> {
  typedef float Values __attribute__((vector_size(64)));
  typedef int32_t Integers __attribute__((vector_size(64)));
  static constexpr int kMantissa = 23, kBias = 127, kTerms = 7;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  static constexpr float kLow = -87.0f, kHigh = 88.0f;
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
};

template <>
struct Vectors<double> {
  typedef double Values __attribute__((vector_size(64)));
  typedef int64_t Integers __attribute__((vector_size(64)));
  static constexpr int kMantissa = 52, kBias = 1023, kTerms = 13;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLow = -708.0, kHigh = 709.0;
  static constexpr double kLn2High = 6.93145751953125e-1;
  static constexpr double kLn2Low = 1.42860682030941723212e-6;
};

template <typename T>
using Vector = typename Vectors<T>::Values;
template <typename T>
using Integers = typename Vectors<T>::Integers;
template <typename T>
constexpr int kLanes = 64 / sizeof(T);

template <typename T>
Vector<T> Load(const T* from, int64_t count = kLanes<T>) {
  Vector<T> v{};
  if (count >= kLanes<T>) {
    std::memcpy(&v, from, sizeof v);
  } else {
    std::memcpy(&v, from, count * sizeof(T));
  }
  return v;
}

template <typename T>
void Store(T* to, Vector<T> v, int64_t count = kLanes<T>) {
  if (count >= kLanes<T>) {
    std::memcpy(to, &v, sizeof v);
  } else {
    std::memcpy(to, &v, count * sizeof(T));
  }
}

template <typename T>
constexpr T InverseFactorial(int k) {
  return k < 2 ? T(1) : InverseFactorial<T>(k - 1) / k;
}

// exp(x) = scale + scale * rest: x = n ln 2 + r, scale = 2^n, and rest = exp(r) - 1 by
// its Taylor series, |r| < 0.35. Beyond the clamps nothing changes in a gate.
template <typename T>
struct Exponential {
  Vector<T> scale, rest;

  explicit Exponential(Vector<T> x) {
    using C = Vectors<T>;
    x = x > C::kHigh ? Vector<T>{} + C::kHigh : x;  // not a number stays what it is
    x = x < C::kLow ? Vector<T>{} + C::kLow : x;
    const Vector<T> n = (x * T(1.4426950408889634074) + C::kRound) - C::kRound;
    const Vector<T> r = (x - n * C::kLn2High) - n * C::kLn2Low;
    Vector<T> series{};
#pragma GCC unroll 16
    for (int k = C::kTerms; k > 0; --k) series = series * r + InverseFactorial<T>(k);
    rest = r * series;
    const Integers<T> power = __builtin_convertvector(n, Integers<T>) + C::kBias;
    scale = reinterpret_cast<Vector<T>>(power << C::kMantissa);
  }
};

template <typename T>
Vector<T> Sigmoid(Vector<T> z) {
  const Exponential<T> e(-z);
  return T(1) / (T(1) + e.scale + e.scale * e.rest);
}

// tanh z = m / (m + 2) with m = exp(2z) - 1, which loses nothing near 0.
template <typename T>
Vector<T> Tanh(Vector<T> z) {
  const Exponential<T> e(z + z);
  const Vector<T> m = e.scale * e.rest + (e.scale - T(1));
  return m / (m + T(2));
}

// --- a product of a few rows and a matrix ---------------------------------------------

// A matrix (rows, columns) as panels of two vectors' width, each row after row, so that
// a product reads it from one end to the other; filled up with zeros.
template <typename T>
struct Panels {
  static constexpr int64_t kWidth = 2 * kLanes<T>;
  int64_t rows, count;
  std::vector<T> values;

  Panels(int64_t rows, int64_t columns)
      : rows(rows),
        count((columns + kWidth - 1) / kWidth),
        values(count * rows * kWidth) {}

  // Fills panel p from a matrix (rows, columns), or from its transpose (columns, rows).
  void Fill(int64_t p, const T* matrix, int64_t columns, bool transposed) {
    const int64_t first = p * kWidth, lanes = std::min(kWidth, columns - first);
    T* to = values.data() + p * rows * kWidth;
    if (!transposed) {
      for (int64_t k = 0; k < rows; ++k) {
        std::copy_n(matrix + k * columns + first, lanes, to + k * kWidth);
      }
      return;
    }
    constexpr int64_t kBlock = 16;  // what is written stays in the first cache
    for (int64_t block = 0; block < rows; block += kBlock) {
      for (int64_t n = 0; n < lanes; ++n) {
        const T* from = matrix + (first + n) * rows;
        for (int64_t k = block; k < std::min(block + kBlock, rows); ++k) {
          to[k * kWidth + n] = from[k];
        }
      }
    }
  }

  int64_t width() const { return count * kWidth; }
};

// sums (kRows, width) += rows (kRows, matrix.rows) times the matrix. It goes through
// kPanels panels at once: one chain of additions a vector, and there must be enough
// chains for the processor to have always one that is ready.
template <typename T, int kRows, int kPanels>
void AddPanels(const T* rows, int64_t stride, const Panels<T>& matrix, int64_t first,
               T* sums) {
  constexpr int kVectors = 2 * kPanels;
  const int64_t panel = matrix.rows * matrix.kWidth;
  const T* from = matrix.values.data() + first * panel;
  T* to = sums + first * matrix.kWidth;
  Vector<T> total[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = Load(to + r * matrix.width() + v * kLanes<T>);
    }
  }
  for (int64_t k = 0; k < matrix.rows; ++k, from += matrix.kWidth) {
    Vector<T> weights[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      weights[v] = Load(from + v / 2 * panel + v % 2 * kLanes<T>);
    }
    for (int r = 0; r < kRows; ++r) {
      const T factor = rows[r * stride + k];
      for (int v = 0; v < kVectors; ++v) total[r][v] += factor * weights[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      Store(to + r * matrix.width() + v * kLanes<T>, total[r][v]);
    }
  }
}

template <typename T, int kRows>
void AddProduct(const T* rows, int64_t stride, const Panels<T>& matrix, T* sums) {
  constexpr int kPanels = kRows < 4 ? 4 / kRows : 1;
  int64_t p = 0;
  for (; p + kPanels <= matrix.count; p += kPanels) {
    AddPanels<T, kRows, kPanels>(rows, stride, matrix, p, sums);
  }
  for (; p < matrix.count; ++p) {
    AddPanels<T, kRows, 1>(rows, stride, matrix, p, sums);
  }
}

constexpr int kMostRows = 8;  // with two vectors each they fill half the registers

template <typename T>
void AddProduct(int64_t count, const T* rows, int64_t stride, const Panels<T>& matrix,
                T* sums) {
  switch (count) {
    case 1: return AddProduct<T, 1>(rows, stride, matrix, sums);
    case 2: return AddProduct<T, 2>(rows, stride, matrix, sums);
    case 3: return AddProduct<T, 3>(rows, stride, matrix, sums);
    case 4: return AddProduct<T, 4>(rows, stride, matrix, sums);
    case 5: return AddProduct<T, 5>(rows, stride, matrix, sums);
    case 6: return AddProduct<T, 6>(rows, stride, matrix, sums);
    case 7: return AddProduct<T, 7>(rows, stride, matrix, sums);
    default: return AddProduct<T, kMostRows>(rows, stride, matrix, sums);
  }
}

// --- threads --------------------------------------------------------------------------

// Calls run(0) to run(count - 1), on the threads of the pool and this one. It waits for
// what others have begun and for nothing that has not: a pool whose threads are all in
// here goes on.
template <typename Run>
void ForEach(ffi::ThreadPool& pool, int64_t count, const Run& run) {
  struct Work {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto work = std::make_shared<Work>();
  auto take = [work, count, &run] {
    for (int64_t i; (i = work->next.fetch_add(1)) < count;) {
      run(i);
      work->done.fetch_add(1, std::memory_order_release);
    }
  };
  const int64_t helpers = std::min(count, pool.num_threads()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(take)(take));
  take();
  while (work->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
}

// One matrix for each problem.
template <typename T>
std::vector<Panels<T>> MakePanels(ffi::ThreadPool& pool, const T* matrices,
                                  int64_t problems, int64_t rows, int64_t columns,
                                  bool transposed) {
  std::vector<Panels<T>> all(problems, Panels<T>(rows, columns));
  const int64_t count = all.empty() ? 0 : all.front().count;
  ForEach(pool, problems * count, [&](int64_t task) {
    const int64_t problem = task / count;
    all[problem].Fill(task % count, matrices + problem * rows * columns, columns,
                      transposed);
  });
  return all;
}

struct Sizes {
  int64_t problems, steps, batch, hidden;

  // From the shape (..., T, B, H).
  template <typename Shape>
  explicit Sizes(const Shape& shape) : problems(1) {
    const size_t rank = shape.size();
    for (size_t axis = 0; axis + 3 < rank; ++axis) problems *= shape[axis];
    steps = shape[rank - 3];
    batch = shape[rank - 2];
    hidden = shape[rank - 1];
  }
};

// The rows of a batch in parts, as even as their number allows.
struct Parts {
  int64_t batch, count;

  Parts(int64_t batch, int64_t threads)
      : batch(batch), count((batch + kMostRows - 1) / kMostRows) {
    count = std::min(batch, (count + threads - 1) / threads * threads);
  }

  int64_t first(int64_t part) const { return part * batch / count; }
};

// --- forward --------------------------------------------------------------------------

template <ffi::DataType kType, typename T = ffi::NativeType<kType>>
ffi::Error Forward(ffi::ThreadPool pool, bool reverse, ffi::Buffer<kType> Wh,
                   ffi::Buffer<kType> initial_h, ffi::Buffer<kType> initial_c,
                   ffi::Buffer<kType> entry_h, ffi::Buffer<kType> entry_c,
                   ffi::Buffer<kType> u, ffi::Buffer<ffi::PRED> valid,
                   ffi::Buffer<ffi::PRED> carried, ffi::ResultBuffer<kType> final_h,
                   ffi::ResultBuffer<kType> final_c, ffi::ResultBuffer<kType> new_h,
                   ffi::ResultBuffer<kType> new_c, ffi::ResultBuffer<kType> gate_i,
                   ffi::ResultBuffer<kType> gate_f, ffi::ResultBuffer<kType> gate_o,
                   ffi::ResultBuffer<kType> gate_g) {
  const Sizes sizes(new_h->dimensions());
  const int64_t T_ = sizes.steps, B = sizes.batch, H = sizes.hidden;
  const Parts parts(B, pool.num_threads());
  const auto weights =
      MakePanels(pool, Wh.typed_data(), sizes.problems, H, 4 * H, false);
  ForEach(pool, sizes.problems * parts.count, [&](int64_t task) {
    const int64_t problem = task / parts.count, part = task % parts.count;
    const int64_t first = parts.first(part), rows = parts.first(part + 1) - first;
    const int64_t state_at = (problem * B + first) * H;
    const Panels<T>& matrix = weights[problem];
    std::vector<T> h(rows * H), c(rows * H), z(rows * matrix.width());
    std::copy_n(entry_h.typed_data() + state_at, rows * H, h.data());
    std::copy_n(entry_c.typed_data() + state_at, rows * H, c.data());
    for (int64_t n = 0; n < T_; ++n) {
      const int64_t t = reverse ? T_ - 1 - n : n;
      const int64_t row_at = (problem * T_ + t) * B + first;
      std::vector<T> before_h, before_c;  // of rows that this step leaves alone
      for (int64_t r = 0; r < rows; ++r) {
        std::copy_n(u.typed_data() + (row_at + r) * 4 * H, 4 * H,
                    z.data() + r * matrix.width());
        if (!valid.typed_data()[row_at + r] && before_h.empty()) {
          before_h = h;
          before_c = c;
        }
        if (!carried.typed_data()[row_at + r]) {
          std::copy_n(initial_h.typed_data() + state_at + r * H, H, h.data() + r * H);
          std::copy_n(initial_c.typed_data() + state_at + r * H, H, c.data() + r * H);
        }
      }
      AddProduct(rows, h.data(), H, matrix, z.data());  // (1), (2)
      for (int64_t r = 0; r < rows; ++r) {
        const T* z_row = z.data() + r * matrix.width();
        T *h_row = h.data() + r * H, *c_row = c.data() + r * H;
        const int64_t to = (row_at + r) * H;
        for (int64_t j = 0; j < H; j += kLanes<T>) {
          const int64_t lanes = H - j;
          const Vector<T> i = Sigmoid<T>(Load(z_row + j, lanes));          // (3)
          const Vector<T> f = Sigmoid<T>(Load(z_row + H + j, lanes));      // (3)
          const Vector<T> o = Sigmoid<T>(Load(z_row + 2 * H + j, lanes));  // (3)
          const Vector<T> g = Tanh<T>(Load(z_row + 3 * H + j, lanes));     // (4)
          const Vector<T> c = i * g + f * Load(c_row + j, lanes);          // (5)
          const Vector<T> h = o * Tanh<T>(c);                              // (6), (7)
          Store(gate_i->typed_data() + to + j, i, lanes);
          Store(gate_f->typed_data() + to + j, f, lanes);
          Store(gate_o->typed_data() + to + j, o, lanes);
          Store(gate_g->typed_data() + to + j, g, lanes);
          Store(c_row + j, c, lanes);
          Store(h_row + j, h, lanes);
        }
        if (!valid.typed_data()[row_at + r]) {
          std::copy_n(before_h.data() + r * H, H, h_row);
          std::copy_n(before_c.data() + r * H, H, c_row);
        }
        std::copy_n(h_row, H, new_h->typed_data() + to);
        std::copy_n(c_row, H, new_c->typed_data() + to);
      }
    }
    std::copy_n(h.data(), rows * H, final_h->typed_data() + state_at);
    std::copy_n(c.data(), rows * H, final_c->typed_data() + state_at);
  });
  return ffi::Error::Success();
}

// --- its reverse ----------------------------------------------------------------------

template <ffi::DataType kType, typename T = ffi::NativeType<kType>>
ffi::Error Backward(ffi::ThreadPool pool, bool reverse, ffi::Buffer<kType> Wh,
                    ffi::Buffer<kType> dlast_h, ffi::Buffer<kType> dlast_c,
                    ffi::Buffer<kType> dy, ffi::Buffer<kType> old_c,
                    ffi::Buffer<kType> new_c, ffi::Buffer<kType> gate_i,
                    ffi::Buffer<kType> gate_f, ffi::Buffer<kType> gate_o,
                    ffi::Buffer<kType> gate_g, ffi::Buffer<ffi::PRED> valid,
                    ffi::Buffer<ffi::PRED> carried, ffi::ResultBuffer<kType> dfirst_h,
                    ffi::ResultBuffer<kType> dfirst_c,
                    ffi::ResultBuffer<kType> dinitial_h,
                    ffi::ResultBuffer<kType> dinitial_c, ffi::ResultBuffer<kType> dz) {
  const Sizes sizes(dy.dimensions());
  const int64_t T_ = sizes.steps, B = sizes.batch, H = sizes.hidden;
  const Parts parts(B, pool.num_threads());
  const auto weights =
      MakePanels(pool, Wh.typed_data(), sizes.problems, 4 * H, H, true);
  ForEach(pool, sizes.problems * parts.count, [&](int64_t task) {
    const int64_t problem = task / parts.count, part = task % parts.count;
    const int64_t first = parts.first(part), rows = parts.first(part + 1) - first;
    const int64_t state_at = (problem * B + first) * H;
    const Panels<T>& matrix = weights[problem];
    T* initial_h = dinitial_h->typed_data() + state_at;
    T* initial_c = dinitial_c->typed_data() + state_at;
    std::fill_n(initial_h, rows * H, T(0));
    std::fill_n(initial_c, rows * H, T(0));
    std::vector<T> dh(rows * H), dc(rows * H), product(rows * matrix.width());
    std::copy_n(dlast_h.typed_data() + state_at, rows * H, dh.data());
    std::copy_n(dlast_c.typed_data() + state_at, rows * H, dc.data());
    for (int64_t n = 0; n < T_; ++n) {
      const int64_t t = reverse ? n : T_ - 1 - n;
      const int64_t row_at = (problem * T_ + t) * B + first;
      T* dz_rows = dz->typed_data() + row_at * 4 * H;
      for (int64_t r = 0; r < rows; ++r) {
        T *dh_row = dh.data() + r * H, *dc_row = dc.data() + r * H;
        T* dz_row = dz_rows + r * 4 * H;
        const int64_t at = (row_at + r) * H;
        const bool within = valid.typed_data()[row_at + r];
        if (!within) std::fill_n(dz_row, 4 * H, T(0));
        for (int64_t j = 0; j < H; j += kLanes<T>) {
          const int64_t lanes = H - j;
          const Vector<T> dh = Load(dh_row + j, lanes) + Load(dy.typed_data() + at + j, lanes);
          Store(dh_row + j, dh, lanes);
          if (!within) continue;
          const Vector<T> i = Load(gate_i.typed_data() + at + j, lanes);
          const Vector<T> f = Load(gate_f.typed_data() + at + j, lanes);
          const Vector<T> o = Load(gate_o.typed_data() + at + j, lanes);
          const Vector<T> g = Load(gate_g.typed_data() + at + j, lanes);
          const Vector<T> a = Tanh<T>(Load(new_c.typed_data() + at + j, lanes));
          const Vector<T> c_prev = Load(old_c.typed_data() + at + j, lanes);
          const Vector<T> da = dh * o, d_o = dh * a;                          // (7)
          const Vector<T> dc = Load(dc_row + j, lanes) + da * (T(1) - a * a);  // (6)
          const Vector<T> di = dc * g, dg = dc * i, df = dc * c_prev;         // (5)
          Store(dc_row + j, dc * f, lanes);                                   // (5)
          Store(dz_row + j, di * i * (T(1) - i), lanes);                      // (3)
          Store(dz_row + H + j, df * f * (T(1) - f), lanes);                  // (3)
          Store(dz_row + 2 * H + j, d_o * o * (T(1) - o), lanes);             // (3)
          Store(dz_row + 3 * H + j, dg * (T(1) - g * g), lanes);              // (4)
        }
      }
      std::fill(product.begin(), product.end(), T(0));
      AddProduct(rows, dz_rows, 4 * H, matrix, product.data());  // (1), (2)
      for (int64_t r = 0; r < rows; ++r) {
        if (!valid.typed_data()[row_at + r]) continue;
        T *dh_row = dh.data() + r * H, *dc_row = dc.data() + r * H;
        std::copy_n(product.data() + r * matrix.width(), H, dh_row);
        if (carried.typed_data()[row_at + r]) continue;
        for (int64_t j = 0; j < H; ++j) {
          initial_h[r * H + j] += dh_row[j];
          initial_c[r * H + j] += dc_row[j];
        }
        std::fill_n(dh_row, H, T(0));
        std::fill_n(dc_row, H, T(0));
      }
    }
    std::copy_n(dh.data(), rows * H, dfirst_h->typed_data() + state_at);
    std::copy_n(dc.data(), rows * H, dfirst_c->typed_data() + state_at);
  });
  return ffi::Error::Success();
}

template <ffi::DataType kType>
auto BindForward() {
  using In = ffi::Buffer<kType>;
  using Mask = ffi::Buffer<ffi::PRED>;
  return ffi::Ffi::Bind()
      .template Ctx<ffi::ThreadPool>()
      .template Attr<bool>("reverse")
      .template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>()
      .template Arg<In>().template Arg<In>().template Arg<Mask>().template Arg<Mask>()
      .template Ret<In>().template Ret<In>().template Ret<In>().template Ret<In>()
      .template Ret<In>().template Ret<In>().template Ret<In>().template Ret<In>();
}

template <ffi::DataType kType>
auto BindBackward() {
  using In = ffi::Buffer<kType>;
  using Mask = ffi::Buffer<ffi::PRED>;
  return ffi::Ffi::Bind()
      .template Ctx<ffi::ThreadPool>()
      .template Attr<bool>("reverse")
      .template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>()
      .template Arg<In>().template Arg<In>().template Arg<In>().template Arg<In>()
      .template Arg<In>().template Arg<In>().template Arg<Mask>().template Arg<Mask>()
      .template Ret<In>().template Ret<In>().template Ret<In>().template Ret<In>()
      .template Ret<In>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmForwardF32, Forward<ffi::F32>, BindForward<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmForwardF64, Forward<ffi::F64>, BindForward<ffi::F64>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmBackwardF32, Backward<ffi::F32>, BindBackward<ffi::F32>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmBackwardF64, Backward<ffi::F64>, BindBackward<ffi::F64>());
