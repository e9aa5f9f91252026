// The gradients of weights, XᵀdZ and HᵀdZ over all steps of all sequences, on CPUs.
//
// XLA copies X and H transposed, H after it was put together from the outputs before each
// step, and keeps to one thread where the matrices are narrow. Here all of it is read as it
// lies, some examples at a time, of which each thread multiplies some columns of X and H
// with all of dZ, in tiles whose sums are in registers.
//
// Before this file: `numbers.h` and `threads.h`.

namespace {

// Of a tile: its sums fill half the registers.
#ifdef __AVX512F__
constexpr int64_t kTileRows = 8, kTileVectors = 2;
#else
constexpr int64_t kTileRows = 4, kTileVectors = 1;
#endif
constexpr int64_t kTileColumns = kTileVectors * kLanes;
constexpr int64_t kExamples = 256;  // at a time: a tile's fit into the first cache

inline int64_t Tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// Rows of numbers. The first `in_entry` lie in one array, the others in another; in
// reverse it is the last.
struct Examples {
  int64_t count, columns;
  const Stored* rest;
  const Stored* entry = nullptr;
  int64_t in_entry = 0;
  bool reverse = false;

  const Stored* Row(int64_t k) const {
    const int64_t in_rest = count - in_entry;
    if (reverse) {
      return k < in_rest ? rest + (k + in_entry) * columns
                         : entry + (k - in_rest) * columns;
    }
    return k < in_entry ? entry + k * columns : rest + (k - in_entry) * columns;
  }
};

// Some columns of some examples, in panels of `width` columns, each row after row. What
// the last panel has beyond them is anything.
template <int64_t width>
class Columns {
 public:
  void Copy(const Examples& from, int64_t begin, int64_t end, int64_t first,
            int64_t columns) {
    rows_ = end - begin;
    values_.resize(rows_ * Tiles(columns, width) * width);
    row_.resize(std::is_same_v<Stored, Scalar> ? 0 : columns);
    for (int64_t k = 0; k < rows_; ++k) {
      const Scalar* row = AsScalars(from.Row(begin + k) + first, columns);
      for (int64_t j = 0; j < columns; j += width) {
        Scalar* to = values_.data() + j * rows_ + k * width;
        if (j + width <= columns) {
          std::copy_n(row + j, width, to);  // a size that the compiler knows
        } else {
          std::copy_n(row + j, columns - j, to);
        }
      }
    }
  }

  // The panel that begins with a column.
  const Scalar* At(int64_t column) const { return values_.data() + column * rows_; }

 private:
  template <typename Number>
  const Scalar* AsScalars(const Number* from, int64_t columns) {
    if constexpr (std::is_same_v<Number, Scalar>) {
      return from;
    } else {
      for (int64_t j = 0; j < columns; j += kLanes) {
        Store(row_.data() + j, Load(from + j, columns - j), columns - j);
      }
      return row_.data();
    }
  }

  std::vector<Scalar> values_, row_;
  int64_t rows_ = 0;
};

// sums (rows, columns), of rows that are `stride` apart, += the product of the panels x
// (count, kTileRows), transposed, and dz (count, kTileColumns).
inline void AddTile(const Scalar* x, const Scalar* dz, int64_t count, int64_t rows,
                    int64_t columns, Scalar* sums, int64_t stride) {
  Values total[kTileRows][kTileVectors] = {};
  for (int64_t k = 0; k < count; ++k, x += kTileRows, dz += kTileColumns) {
    Values vectors[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) vectors[v] = Load(dz + v * kLanes).values;
    for (int r = 0; r < kTileRows; ++r) {
      for (int v = 0; v < kTileVectors; ++v) total[r][v] += x[r] * vectors[v];
    }
  }
  for (int64_t r = 0; r < std::min(rows, kTileRows); ++r) {
    Scalar* to = sums + r * stride;
    for (int64_t v = 0; v < kTileVectors && v * kLanes < columns; ++v) {
      const int64_t j = v * kLanes, lanes = columns - j;
      Store(to + j, Load(to + j, lanes) + Real(total[r][v]), lanes);
    }
  }
}

// x (K, D), h before the first step (B, H) and after all steps (K, H), and dz (K, N)
// -> dWx (D, N) and dWh (H, N), Scalars. Where B is 0, h is that before all steps.
void RunWeightGradients(const Call& call) {
  const bool reverse = call.flag(0);
  const Array &x = call.argument(0), &entry = call.argument(1), &h = call.argument(2),
              &dz = call.argument(3), &dWx = call.result(0), &dWh = call.result(1);
  const int64_t K = FromLast(x, 2), B = FromLast(entry, 2), N = FromLast(dz, 1);
  const int64_t D = FromLast(x, 1), H = FromLast(h, 1);
  const int64_t of_x = Tiles(D, kTileRows), tiles = of_x + Tiles(H, kTileRows);
  const int64_t parts = std::min(call.threads(), tiles);
  // The rows, of the `size` of a result whose tiles begin with `first`, before a tile.
  auto before = [](int64_t tile, int64_t first, int64_t size) {
    return std::clamp((tile - first) * kTileRows, int64_t{0}, size);
  };
  struct Part {  // of a result
    Examples from;
    Scalar* sums;
    int64_t begin, end;
  };
  ForEach(call, Count(dWx) / (D * N) * parts, [&](int64_t task) {
    const int64_t p = task / parts, part = task % parts;
    const int64_t begin = part * tiles / parts, end = (part + 1) * tiles / parts;
    auto numbers = [p](const Array& a, int64_t each) {
      return static_cast<const Stored*>(a.data) + p * each;
    };
    auto sums = [p](const Array& a, int64_t each) {
      return static_cast<Scalar*>(a.data) + p * each;
    };
    const Part both[] = {
        {{K, D, numbers(x, K * D)},
         sums(dWx, D * N),
         before(begin, 0, D),
         before(end, 0, D)},
        {{K, H, numbers(h, K * H), numbers(entry, B * H), B, reverse},
         sums(dWh, H * N),
         before(begin, of_x, H),
         before(end, of_x, H)},
    };
    for (const Part& one : both) {
      std::fill(one.sums + one.begin * N, one.sums + one.end * N, Scalar(0));
    }
    Columns<kTileRows> left;
    Columns<kTileColumns> right;
    for (int64_t k = 0; k < K; k += kExamples) {
      const int64_t count = std::min(kExamples, K - k);
      right.Copy({K, N, numbers(dz, K * N)}, k, k + count, 0, N);
      for (const Part& one : both) {
        const int64_t rows = one.end - one.begin;
        if (rows == 0) continue;
        left.Copy(one.from, k, k + count, one.begin, rows);
        for (int64_t j = 0; j < N; j += kTileColumns) {
          for (int64_t i = 0; i < rows; i += kTileRows) {
            AddTile(left.At(i), right.At(j), count, rows - i, N - j,
                    one.sums + (one.begin + i) * N + j, N);
          }
        }
      }
    }
  });
}

}  // namespace

extern "C" XLA_FFI_Error* WeightGradients(XLA_FFI_CallFrame* frame) {
  return Handle(*frame, {4, 2, 1}, RunWeightGradients);
}
