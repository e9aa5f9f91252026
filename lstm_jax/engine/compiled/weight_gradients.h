// The gradients of weights, XᵀdZ and HᵀdZ over all steps of all sequences, on CPUs.
//
// XLA copies X and H transposed, H after it was put together from the outputs before each
// step, and keeps to one thread where the matrices are narrow. Here all of it is read as it
// lies, some examples at a time, of which a thread multiplies some columns of X or H with
// some of dZ, in tiles whose sums are in registers.
//
// Before this file: `numbers.h` and `threads.h`.

namespace {

constexpr int64_t kTileRows = kRowsOfSums, kTileVectors = 2;
constexpr int64_t kTileColumns = kTileVectors * kLanes;
constexpr int64_t kExamples = 256;  // at a time: a tile's fit into the first cache
constexpr int64_t kAhead = 12;      // rows that are on their way while one is copied

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

  // Asks for some columns of a row, which processors do not foresee: between those of
  // two rows lies what other threads take.
  void Prefetch(int64_t k, int64_t first, int64_t some) const {
    constexpr int64_t kLine = 64 / sizeof(Stored);
    if (k >= count) return;
    const Stored* row = Row(k) + first;
    for (int64_t j = 0; j < some; j += kLine) __builtin_prefetch(row + j);
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
    values_.resize(rows_ * CeilOfRatio(columns, width) * width);
    row_.resize(std::is_same_v<Stored, Scalar> ? 0 : columns);
    for (int64_t k = 0; k < rows_; ++k) {
      from.Prefetch(begin + k + kAhead, first, columns);
      const Scalar* row = AsScalars(from.Row(begin + k) + first, columns);
      for (int64_t j = 0; j < columns; j += width) {
        Scalar* to = values_.data() + j * rows_ + k * width;
        if (j + width <= columns) {
          // Of a size that the compiler knows. A move would be a call for all but a few.
          std::memcpy(to, row + j, width * sizeof(Scalar));
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

// The product of X (K, rows), transposed, and dZ (K, columns).
struct Product {
  Examples x, dz;
  Scalar* sums;

  // Rows and columns from `row` and `column` on, at most `height` and `width`.
  void Take(int64_t row, int64_t column, int64_t height, int64_t width) const {
    const int64_t rows = std::min(height, x.columns - row);
    const int64_t columns = std::min(width, dz.columns - column);
    Scalar* to = sums + row * dz.columns + column;
    for (int64_t i = 0; i < rows; ++i) {
      std::fill_n(to + i * dz.columns, columns, Scalar(0));
    }
    Columns<kTileRows> left;
    Columns<kTileColumns> right;
    for (int64_t k = 0; k < x.count; k += kExamples) {
      const int64_t end = std::min(k + kExamples, x.count);
      left.Copy(x, k, end, row, rows);
      right.Copy(dz, k, end, column, columns);
      for (int64_t j = 0; j < columns; j += kTileColumns) {
        for (int64_t i = 0; i < rows; i += kTileRows) {
          AddTile(left.At(i), right.At(j), end - k, rows - i, columns - j,
                  to + i * dz.columns + j, dz.columns);
        }
      }
    }
  }
};

// x (K, D), h before the first step (B, H) and after all steps (K, H), the gradients of
// the products with x (K, N) and with h (K, M) -> dWx (D, N) and dWh (H, M), Scalars.
// Where B is 0, h is that before all steps.
void RunWeightGradients(const Call& call) {
  const bool reverse = call.flag(0);
  const Array &x = call.argument(0), &entry = call.argument(1), &h = call.argument(2);
  const Array *dz[] = {&call.argument(3), &call.argument(4)};
  const Array *sums[] = {&call.result(0), &call.result(1)};
  const int64_t K = FromLast(x, 2), B = FromLast(entry, 2);
  const int64_t problems =
      Count(*sums[0]) / (FromLast(*sums[0], 2) * FromLast(*sums[0], 1));

  // Each result is divided into pieces, so large that little is copied twice, and so many
  // that threads end together, whatever else they have to do.
  int64_t height = 128, width = 512;
  auto across = [&](int n) { return CeilOfRatio(FromLast(*sums[n], 1), width); };
  auto pieces = [&](int n) { return CeilOfRatio(FromLast(*sums[n], 2), height) * across(n); };
  auto all = [&] { return pieces(0) + pieces(1); };
  while (problems * all() < 4 * call.threads() && height + width > 64 + 128) {
    (width > 128 ? width : height) /= 2;
  }
  ForEach(call, problems * all(), [&](int64_t task) {
    const int64_t p = task / all(), piece = task % all();
    auto numbers = [p](const Array& a) {
      return static_cast<const Stored*>(a.data) + p * FromLast(a, 2) * FromLast(a, 1);
    };
    const int n = piece < pieces(0) ? 0 : 1;  // of which result
    const int64_t k = n ? piece - pieces(0) : piece;
    const int64_t rows = FromLast(*sums[n], 2), columns = FromLast(*sums[n], 1);
    const Examples left = n ? Examples{K, rows, numbers(h), numbers(entry), B, reverse}
                            : Examples{K, rows, numbers(x)};
    const Product product{left, {K, columns, numbers(*dz[n])},
                          static_cast<Scalar*>(sums[n]->data) + p * rows * columns};
    product.Take(k / across(n) * height, k % across(n) * width, height, width);
  });
}

}  // namespace

extern "C" XLA_FFI_Error* WeightGradients(XLA_FFI_CallFrame* frame) {
  return Handle(*frame, {5, 2, 1}, RunWeightGradients);
}
