package valkey

import (
	"strconv"
	"strings"
	"sync"
)

// slotCount is the number of hash slots of a cluster.
const slotCount = 16384

// slotOf returns the slot of a key: CRC16 (XMODEM) of what stands between its
// first { and the next }, or of all of it if that is nothing (cluster
// specification, "hash tags").
func slotOf(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if n := strings.IndexByte(key[open+1:], '}'); n > 0 {
			key = key[open+1 : open+1+n]
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slotCount
}

// asides names where the sets that are being purged are put. The name is the
// set's own with an end like :walpurge:{123}: always the same one for a set, so
// that a walk that was cut short is found again; in the same slot, so that
// RENAMENX can reach it; and covered by whatever ACL pattern covers the set.
type asides struct {
	// numbers finds for each slot a number whose text lies in it. It is only
	// needed for sets without a hash tag of their own, and made on first use.
	numbers func() []int
}

func newAsides() asides {
	return asides{numbers: sync.OnceValue(func() []int {
		numbers := make([]int, slotCount)
		for i := range numbers {
			numbers[i] = -1
		}
		for n, missing := 0, slotCount; missing > 0; n++ {
			if slot := slotOf(strconv.Itoa(n)); numbers[slot] < 0 {
				numbers[slot] = n
				missing--
			}
		}
		return numbers
	})}
}

func (a asides) of(set string) string {
	named := func(n int) string { return set + ":walpurge:{" + strconv.Itoa(n) + "}" }
	slot := slotOf(set)
	if !strings.Contains(set, "{") {
		return named(a.numbers()[slot])
	}
	// With a hash tag the first number will do. A brace that opens none makes
	// the tag, or with {} the whole name, end in the number: one of them fits.
	for n := 0; ; n++ {
		if name := named(n); slotOf(name) == slot {
			return name
		}
	}
}
