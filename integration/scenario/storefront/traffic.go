package storefront

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/walpurge/walpurge/integration/scenario/load"
)

// What seed.sql has.
const (
	merchants  = 24
	categories = 4
	products   = 960
)

// The endpoints.
const (
	listing  = "listing"
	category = "category"
	product  = "product"
)

// popular draws a number from 1 to n: a tenth of them gets half of the requests.
func popular(r *rand.Rand, n int) int { return 1 + int(float64(n)*math.Pow(r.Float64(), 3.3)) }

// next makes a visitor's request to a site: half of them see the first pages of a merchant, a fifth
// a category, the rest a product.
func next(r *rand.Rand, site string) load.Request {
	merchant := popular(r, merchants)
	switch kind := r.Float64(); {
	case kind < 0.5:
		page := 1
		if r.Float64() < 0.2 {
			page = 2
		}
		return get(listing, "%s/merchants/%d/products?category=0&page=%d", site, merchant, page)
	case kind < 0.7:
		return get(category, "%s/merchants/%d/products?category=%d&page=1", site, merchant, 1+r.IntN(categories))
	}
	return get(product, "%s/merchants/%d/products/%d", site, merchant, productOf(r, merchant))
}

func get(endpoint, format string, args ...any) load.Request {
	return load.Request{Endpoint: endpoint, Method: "GET", URL: fmt.Sprintf(format, args...)}
}

// productOf draws a product that seed.sql gives to the merchant.
func productOf(r *rand.Rand, merchant int) int {
	id := merchants*(popular(r, products/merchants)-1) + merchant - 1
	if id == 0 {
		id = merchants * (products/merchants - 1) // there is no product 0
	}
	return id
}
