// What a cell's equations are written with: vectors of numbers, and functions of them.
//
// `Scalar` is the type that is computed in, `Stored` that of the arrays: the same, or 16
// bits beside float. A `Real` is a vector of `kVectorBytes` of Scalars, as many as fit a
// register (compilers keep what is longer in memory), and a `Mask` the truth values of as
// many comparisons.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#define FUNCTION inline __attribute__((always_inline))

namespace {

typedef Scalar Values __attribute__((vector_size(kVectorBytes)));
typedef decltype(Values{} < Values{}) Integers;
constexpr int kLanes = kVectorBytes / sizeof(Scalar);
constexpr Scalar kInfinity = std::numeric_limits<Scalar>::infinity();
constexpr Scalar kNaN = std::numeric_limits<Scalar>::quiet_NaN();

// So many rows of sums, two vectors each, are in registers beside what is added to them:
// half of 32, and of 16 all but four.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kRowsOfSums = 8;
#else
constexpr int kRowsOfSums = 6;
#endif

// Rounded up.
constexpr int64_t CeilOfRatio(int64_t size, int64_t part) {
  return (size + part - 1) / part;
}

struct Mask {
  Integers bits;
  FUNCTION Mask(Integers all) : bits(all) {}
  FUNCTION explicit Mask(bool all) : bits(Integers{} - all) {}
};

struct Real {
  Values values;
  Real() = default;
  FUNCTION Real(Values all) : values(all) {}
  FUNCTION Real(Scalar all) : values(all - Values{}) {}  // of -0 too
};

FUNCTION Real operator+(Real a, Real b) { return a.values + b.values; }
FUNCTION Real operator-(Real a, Real b) { return a.values - b.values; }
FUNCTION Real operator*(Real a, Real b) { return a.values * b.values; }
FUNCTION Real operator/(Real a, Real b) { return a.values / b.values; }
FUNCTION Real operator-(Real a) { return -a.values; }
FUNCTION Mask operator==(Real a, Real b) { return Integers(a.values == b.values); }
FUNCTION Mask operator!=(Real a, Real b) { return Integers(a.values != b.values); }
FUNCTION Mask operator<(Real a, Real b) { return Integers(a.values < b.values); }
FUNCTION Mask operator<=(Real a, Real b) { return Integers(a.values <= b.values); }
FUNCTION Mask operator>(Real a, Real b) { return Integers(a.values > b.values); }
FUNCTION Mask operator>=(Real a, Real b) { return Integers(a.values >= b.values); }
FUNCTION Mask operator&(Mask a, Mask b) { return a.bits & b.bits; }
FUNCTION Mask operator|(Mask a, Mask b) { return a.bits | b.bits; }
FUNCTION Mask operator^(Mask a, Mask b) { return a.bits ^ b.bits; }
FUNCTION Mask operator!(Mask a) { return ~a.bits; }

// As lax.select_n has it: not a number where it is chosen, and nowhere else.
FUNCTION Real Where(Mask which, Real a, Real b) {
  return which.bits ? a.values : b.values;
}
FUNCTION Real Number(Mask truth) { return Where(truth, Real(1), Real(0)); }

// --- arrays ---------------------------------------------------------------------------

// The upper half of a float.
struct Bfloat16 {
  uint16_t bits;
};

// As many of them as a Real has, and twice as many bits.
template <typename Number>
struct Vectors {
  typedef Number Numbers __attribute__((vector_size(sizeof(Number) * kLanes)));
};
template <>
struct Vectors<Bfloat16> {
  typedef uint16_t Numbers __attribute__((vector_size(2 * kLanes)));
  typedef uint32_t Wholes __attribute__((vector_size(4 * kLanes)));
};

template <typename Number>
FUNCTION Real Widened(const Number* from) {
  typename Vectors<Number>::Numbers v;
  std::memcpy(&v, from, sizeof v);
  if constexpr (std::is_same_v<Number, Bfloat16>) {
    using Wholes = typename Vectors<Number>::Wholes;
    return reinterpret_cast<Values>(__builtin_convertvector(v, Wholes) << 16);
  } else {
    return __builtin_convertvector(v, Values);
  }
}

template <typename Number>
FUNCTION void Narrow(Real a, Number* to) {
  using Numbers = typename Vectors<Number>::Numbers;
  Numbers v;
  if constexpr (std::is_same_v<Number, Bfloat16>) {
    using Wholes = typename Vectors<Number>::Wholes;
    const Wholes bits = reinterpret_cast<Wholes>(a.values);
    const Wholes nearest = bits + 0x7fff + (bits >> 16 & 1);  // to even
    const Wholes kept = a.values == a.values ? nearest : bits | 0x400000;
    v = __builtin_convertvector(kept >> 16, Numbers);
  } else {
    v = __builtin_convertvector(a.values, Numbers);
  }
  std::memcpy(to, &v, sizeof v);
}

// The first numbers of a row: a whole vector, or the `count` that are left.
template <typename Number>
FUNCTION Real Load(const Number* from, int64_t count = kLanes) {
  if (count >= kLanes) return Widened(from);
  Number rest[kLanes] = {};
  std::memcpy(rest, from, count * sizeof(Number));
  return Widened(rest);
}

template <typename Number>
FUNCTION void Store(Number* to, Real a, int64_t count = kLanes) {
  if (count >= kLanes) return Narrow(a, to);
  Number rest[kLanes];
  Narrow(a, rest);
  std::memcpy(to, rest, count * sizeof(Number));
}

// --- functions ------------------------------------------------------------------------

FUNCTION Real Abs(Real a) { return Where(a < Real(0), -a, a + Real(0)); }
FUNCTION Real Sign(Real a) {
  return Where(a > Real(0), Real(1), Where(a < Real(0), Real(-1), a));
}
FUNCTION Real Max(Real a, Real b) { return Where((a > b) | (a != a), a, b); }
FUNCTION Real Min(Real a, Real b) { return Where((a < b) | (a != a), a, b); }
FUNCTION Mask IsFinite(Real a) { return Abs(a) < Real(kInfinity); }
FUNCTION Real Square(Real a) { return a * a; }

template <int n>
FUNCTION Real Power(Real a) {
  if constexpr (n < 0) {
    return Real(1) / Power<-n>(a);
  } else if constexpr (n == 0) {
    return Real(1);
  } else if constexpr (n % 2) {
    if constexpr (n == 1) return a;
    return a * Power<n - 1>(a);
  } else {
    return Power<n / 2>(a * a);
  }
}

// What has no series here goes number by number.
template <typename Function, typename... More>
FUNCTION Real Each(const Function& function, Real a, More... more) {
  for (int k = 0; k < kLanes; ++k) {
    a.values[k] = function(a.values[k], more.values[k]...);
  }
  return a;
}

#define EACH(Name, name) \
  FUNCTION Real Name(Real a) { \
    return Each([](Scalar x) { return std::name(x); }, a); \
  }
EACH(Floor, floor)
EACH(Ceil, ceil)
EACH(Sqrt, sqrt)
EACH(Cbrt, cbrt)
EACH(Exp2, exp2)
EACH(Sinh, sinh)
EACH(Cosh, cosh)
EACH(Erf, erf)
EACH(Erfc, erfc)
EACH(Sin, sin)
EACH(Cos, cos)
EACH(Tan, tan)
EACH(Atan, atan)
#undef EACH
FUNCTION Real Rsqrt(Real a) { return Real(1) / Sqrt(a); }
FUNCTION Real Pow(Real a, Real b) {
  return Each([](Scalar x, Scalar y) { return std::pow(x, y); }, a, b);
}
FUNCTION Real Atan2(Real a, Real b) {
  return Each([](Scalar x, Scalar y) { return std::atan2(x, y); }, a, b);
}

template <typename S>
struct Constants;

template <>
struct Constants<float> {
  static constexpr int kMantissa = 23, kBias = 127, kExpTerms = 7, kLogTerms = 5;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  static constexpr float kLow = -87.0f, kHigh = 88.0f;
  static constexpr float kLowest = -104.0f, kHighest = 89.0f;  // exp is 0, infinite
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
};

template <>
struct Constants<double> {
  static constexpr int kMantissa = 52, kBias = 1023, kExpTerms = 13, kLogTerms = 11;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLow = -708.0, kHigh = 709.0;
  static constexpr double kLowest = -746.0, kHighest = 710.0;
  static constexpr double kLn2High = 6.93145751953125e-1;
  static constexpr double kLn2Low = 1.42860682030941723212e-6;
};

using C = Constants<Scalar>;

constexpr Scalar InverseFactorial(int k) {
  return k < 2 ? Scalar(1) : InverseFactorial(k - 1) / k;
}

// 2 to the power of n, for exponents of normal numbers.
FUNCTION Real TwoTo(Integers n) {
  return reinterpret_cast<Values>((n + C::kBias) << C::kMantissa);
}

// exp(x) = 2^n + 2^n * rest: x = n ln 2 + r, and rest = exp(r) - 1 by its Taylor series,
// |r| < 0.35.
struct Exponential {
  Integers n;
  Real rest;

  FUNCTION Exponential(Real x, Scalar low, Scalar high) {
    x = Where(x > Real(high), Real(high), x);  // not a number stays what it is
    x = Where(x < Real(low), Real(low), x);
    const Real whole = (x * Real(1.4426950408889634074) + C::kRound) - C::kRound;
    const Real r = (x - whole * C::kLn2High) - whole * C::kLn2Low;
    Real series(0);
#pragma GCC unroll 16
    for (int k = C::kExpTerms; k > 0; --k) series = series * r + InverseFactorial(k);
    rest = r * series;
    n = __builtin_convertvector(whole.values, Integers);
  }
};

FUNCTION Real Exp(Real x) {
  const Exponential e(x, C::kLowest, C::kHighest);
  // In two halves: 2^n itself may be too large, or too small.
  const Integers half = e.n >> 1;
  const Real scale = TwoTo(e.n - half);
  return (scale + scale * e.rest) * TwoTo(half);
}

FUNCTION Real Expm1(Real x) {
  const Exponential e(x, C::kLow, C::kHigh);
  const Real scale = TwoTo(e.n);
  const Real less = scale * e.rest + (scale - Real(1));
  return Where(x > Real(C::kHigh), Exp(x), less);
}

// Beyond the clamps nothing changes in a gate.
FUNCTION Real Sigmoid(Real z) {
  const Exponential e(-z, C::kLow, C::kHigh);
  const Real scale = TwoTo(e.n);
  return Real(1) / (Real(1) + scale + scale * e.rest);
}

// tanh z = m / (m + 2) with m = exp(2z) - 1, which loses nothing near 0.
FUNCTION Real Tanh(Real z) {
  const Exponential e(z + z, C::kLow, C::kHigh);
  const Real scale = TwoTo(e.n);
  const Real m = scale * e.rest + (scale - Real(1));
  return m / (m + Real(2));
}

// x = 2^n (1 + f) with 1 + f from √½ to √2, s = f / (2 + f), and
// log(1 + f) = 2 artanh s = 2 s + s (2/3 s² + 2/5 s⁴ + ...), where 2 s = f - s f.
FUNCTION Real Log(Real x) {
  constexpr Scalar kNormal = std::numeric_limits<Scalar>::min();
  constexpr Scalar kLift = Scalar(int64_t{1} << C::kMantissa);
  const Mask small = x < Real(kNormal);
  const Real lifted = Where(small, x * Real(kLift), x);
  Integers bits = reinterpret_cast<Integers>(lifted.values);
  constexpr Scalar kRoot = 0.70710678118654752440;
  const Integers root = reinterpret_cast<Integers>(Real(kRoot).values);
  const Integers above = (bits - root) >> C::kMantissa;
  const Real n = Real(__builtin_convertvector(above, Values)) -
                 Where(small, Real(C::kMantissa), Real(0));
  const Real f = Real(reinterpret_cast<Values>(bits - (above << C::kMantissa))) - Real(1);
  const Real s = f / (Real(2) + f), square = s * s;
  Real series(0);
#pragma GCC unroll 16
  for (int k = C::kLogTerms; k > 0; --k) {
    series = (series + Real(Scalar(2) / (2 * k + 1))) * square;
  }
  const Real half = Real(0.5) * f * f;
  const Real rest = s * (half + series) + n * C::kLn2Low;
  Real log = n * C::kLn2High - ((half - rest) - f);
  log = Where(x == Real(kInfinity), x, log);
  log = Where(x == Real(0), Real(-kInfinity), log);
  return Where(x >= Real(0), log, Real(kNaN));
}

// What 1 + x loses of x is a small share of it, by which log(1 + x) is put right.
FUNCTION Real Log1p(Real x) {
  const Real sum = Real(1) + x;
  const Real right = Log(sum) - ((sum - Real(1)) - x) / sum;
  return Where(IsFinite(sum) & (sum != Real(0)), right, Log(sum));
}

}  // namespace
