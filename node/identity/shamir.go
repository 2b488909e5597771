package identity

import (
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"math/big"
)

// Shares are points of a random polynomial over the scalar field of P-256 whose value at 0 is the secret (A. Shamir, "How to share
// a secret", 1979); a share's index is its x. Scalars are 32 bytes, big-endian. Splitting and combining are not constant time: they
// happen at a ceremony and at a recovery, never as an answer to somebody outside.

const scalarLen = 32

// scalarField returns the order of P-256, a prime.
func scalarField() *big.Int { return elliptic.P256().Params().N }

func randomScalar() (*big.Int, error) {
	k, err := rand.Int(rand.Reader, scalarField())
	if err != nil {
		return nil, fmt.Errorf("draw a scalar: %w", err)
	}
	return k, nil
}

// evaluate returns the polynomial's value at x; coefficients rise from the constant.
func evaluate(coefficients []*big.Int, x int64) *big.Int {
	sum, at := new(big.Int), big.NewInt(x)
	for i := len(coefficients) - 1; i >= 0; i-- {
		sum.Mul(sum, at)
		sum.Add(sum, coefficients[i])
		sum.Mod(sum, scalarField())
	}
	return sum
}

// interpolate returns the value at 0 of the polynomial through the points, whose x must differ and not be 0.
func interpolate(xs []int64, ys []*big.Int) *big.Int {
	n := scalarField()
	sum := new(big.Int)
	for i := range xs {
		num, den := big.NewInt(1), big.NewInt(1)
		for j := range xs {
			if j != i {
				num.Mod(num.Mul(num, big.NewInt(xs[j])), n)
				den.Mod(den.Mul(den, big.NewInt(xs[j]-xs[i])), n)
			}
		}
		term := new(big.Int).Mul(num, new(big.Int).ModInverse(den, n))
		sum.Mod(sum.Add(sum, term.Mul(term, ys[i])), n)
	}
	return sum
}
