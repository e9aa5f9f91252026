// The functions that `lstm_jax.engine.compiled.expressions` calls, of one number.

typedef real Real;
typedef bool Mask;
#define FUNCTION __device__ __forceinline__
#define kInfinity (Real(1) / Real(0))
#define kNaN (Real(0) / Real(0))

FUNCTION Real Number(Mask a) { return a ? Real(1) : Real(0); }
FUNCTION Real Where(Mask chosen, Real a, Real b) { return chosen ? a : b; }
FUNCTION Mask Where(Mask chosen, Mask a, Mask b) { return chosen ? a : b; }
FUNCTION Mask IsFinite(Real a) { return a - a == Real(0); }

FUNCTION Real Abs(Real a) { return fabs(a); }
FUNCTION Real Sign(Real a) { return a > Real(0) ? Real(1) : a < Real(0) ? Real(-1) : a; }
FUNCTION Real Max(Real a, Real b) { return a > b || a != a ? a : b; }  // NaN wins
FUNCTION Real Min(Real a, Real b) { return a < b || a != a ? a : b; }
FUNCTION Real Floor(Real a) { return floor(a); }
FUNCTION Real Ceil(Real a) { return ceil(a); }

FUNCTION Real Square(Real a) { return a * a; }
template <int kPower>
FUNCTION Real Power(Real a) {
  if constexpr (kPower < 0) {
    return Real(1) / Power<-kPower>(a);
  } else if constexpr (kPower == 0) {
    return Real(1);
  } else if constexpr (kPower % 2 == 1) {
    return kPower == 1 ? a : a * Power<kPower - 1>(a);
  } else {
    return Square(Power<kPower / 2>(a));
  }
}
FUNCTION Real Pow(Real a, Real b) { return pow(a, b); }
FUNCTION Real Sqrt(Real a) { return sqrt(a); }
FUNCTION Real Rsqrt(Real a) { return Real(1) / sqrt(a); }
FUNCTION Real Cbrt(Real a) { return cbrt(a); }

FUNCTION Real Exp(Real a) { return exp(a); }
FUNCTION Real Exp2(Real a) { return exp2(a); }
FUNCTION Real Expm1(Real a) { return expm1(a); }
FUNCTION Real Log(Real a) { return log(a); }
FUNCTION Real Log1p(Real a) { return log1p(a); }

// These two are what every step waits for: short chains, without a branch, exact to two
// units in the last place.
FUNCTION float Sigmoid(float a) {
  constexpr float high = -1.44269502e+0f, low = -1.92596303e-8f;  // -log2(e)
  const float power = min(a * high, 126.0f);
  const float rest = fmaf(a, high, -(a * high)) + a * low;  // what is rounded off
  const float e = power_of_two(power);
  return quotient(1.0f, 1.0f + fmaf(e, rest * 0.693147181f, e));
}
FUNCTION float Tanh(float a) {
  const float e = power_of_two(fabsf(a) * 2.88539008f);  // e^(2 |a|)
  const float large = 1.0f - quotient(2.0f, 1.0f + e);
  // The polynomial of least relative error where tanh is less than a half.
  const float s = a * a;
  const float small =
      fmaf(s * fmaf(s, fmaf(s, fmaf(s, 0.0164375305f, -0.0526717827f), 0.133207247f),
                    -0.333329469f),
           a, a);
  return fabsf(a) < 0.55f ? small : copysignf(large, a);
}
FUNCTION double Sigmoid(double a) { return 1.0 / (1.0 + exp(-a)); }
FUNCTION double Tanh(double a) { return tanh(a); }

FUNCTION Real Sinh(Real a) { return sinh(a); }
FUNCTION Real Cosh(Real a) { return cosh(a); }
FUNCTION Real Erf(Real a) { return erf(a); }
FUNCTION Real Erfc(Real a) { return erfc(a); }

FUNCTION Real Sin(Real a) { return sin(a); }
FUNCTION Real Cos(Real a) { return cos(a); }
FUNCTION Real Tan(Real a) { return tan(a); }
FUNCTION Real Atan(Real a) { return atan(a); }
FUNCTION Real Atan2(Real a, Real b) { return atan2(a, b); }
