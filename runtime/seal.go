package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
)

// seal is the last field of a record's file. It tells after a power cut whether the
// bytes are those of one write, and whether that came before the durable copy: a file
// is written over that was another record before (see blanks), and the disk may have
// its new name and its old bytes, or some of each.
type seal struct {
	// BootID is the boot of the host in which it was written. In the same one the
	// kernel gives back what was written, and nothing needs to be proved; somebody may
	// have been there with an editor.
	BootID string `json:"boot_id"`
	// Number is higher with each write in a state directory.
	Number uint64 `json:"number"`
	// Sum is the CRC-32C of the file with noSum in its place, in hexadecimal.
	Sum string `json:"sum"`
}

const noSum = "00000000"

// What stands before the number and the sum, as encodeRecord writes them.
const (
	numberMark = `"number": `
	sumMark    = `"sum": "`
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeRecord gives the bytes of a record's file.
func encodeRecord(record *Record, number uint64) ([]byte, error) {
	return sealed(record, seal{BootID: BootID(), Number: number})
}

func sealed(record *Record, s seal) ([]byte, error) {
	s.Sum = noSum
	raw, err := json.MarshalIndent(struct {
		*Record
		Seal seal `json:"seal"`
	}{record, s}, "", " ")
	if err != nil {
		return nil, err
	}
	raw = append(raw, '\n')
	copy(raw[bytes.LastIndex(raw, []byte(sumMark))+len(sumMark):], sumOf(raw))
	return raw, nil
}

func sumOf(raw []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(raw, castagnoli)) }

// broken says what is wrong with bytes that were sealed in an earlier boot.
func (s seal) broken(raw []byte) error {
	if !s.early() {
		return nil
	}
	unsummed := bytes.Clone(raw)
	if at := bytes.LastIndex(unsummed, []byte(sumMark+s.Sum)); at >= 0 {
		copy(unsummed[at+len(sumMark):], noSum)
	}
	if sumOf(unsummed) != s.Sum {
		return errors.New("it is not as it was written before the host's last boot: a power cut leaves such files, or an editor")
	}
	return nil
}

// early says whether it was written before the host's last boot.
func (s seal) early() bool { return s.BootID != "" && s.BootID != BootID() }

// numberIn is the number of a file's seal, without a look at the rest; zero when it
// has none.
func numberIn(path string) uint64 {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	_, after, found := bytes.Cut(raw[max(0, bytes.LastIndex(raw, []byte(numberMark))):], []byte(numberMark))
	if !found {
		return 0
	}
	digits, _, _ := bytes.Cut(after, []byte(","))
	number, _ := strconv.ParseUint(string(digits), 10, 64) // zero when it is none
	return number
}
