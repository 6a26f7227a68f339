package durable

import (
	"encoding/binary"
	"hash/crc32"
)

const sealBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers where a value stands as well as what it is, so that a
// record that turns up under another key is found too. Lengths keep bucket,
// key and value apart.
func checksum(bucket, key, value []byte) uint32 {
	var lengths [8]byte
	binary.BigEndian.PutUint32(lengths[:4], uint32(len(bucket)))
	binary.BigEndian.PutUint32(lengths[4:], uint32(len(key)))
	sum := crc32.Update(0, castagnoli, lengths[:])
	sum = crc32.Update(sum, castagnoli, bucket)
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, value)
}

// seal is value with its checksum behind it.
func seal(bucket, key, value []byte) []byte {
	sealed := make([]byte, 0, len(value)+sealBytes)
	sealed = append(sealed, value...)
	return binary.BigEndian.AppendUint32(sealed, checksum(bucket, key, value))
}

// unseal is the value that was sealed; false if it is not as it was written.
// The value shares memory with sealed.
func unseal(bucket, key, sealed []byte) ([]byte, bool) {
	if len(sealed) < sealBytes {
		return nil, false
	}
	value, sum := sealed[:len(sealed)-sealBytes], sealed[len(sealed)-sealBytes:]
	return value, binary.BigEndian.Uint32(sum) == checksum(bucket, key, value)
}
