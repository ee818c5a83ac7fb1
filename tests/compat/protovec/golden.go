package protovec

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// vector is one line of a golden file: a message, how it was filled, its bytes and its fields.
type vector struct {
	name    string
	variant string
	bytes   []byte
	dump    string
	// bare is the dump without what a proto2 writer may or may not write, see dump.
	bare string
}

// goldenPath finds a file of the proto crate above the working directory, which for Go tests is
// the folder of their package. The tests of both reference versions share it.
func goldenPath(name string) string {
	dir, err := os.Getwd()
	if err != nil {
		return name
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		golden := filepath.Join(dir, "proto", "tests", "golden")
		if _, err := os.Stat(golden); err == nil {
			return filepath.Join(golden, name)
		}
	}
	return name
}

// line is the form in the file: five columns parted by tabs. No bytes are written as "-", and a
// bare dump that equals the dump as "=".
func (v vector) line() string {
	text, bare := hex.EncodeToString(v.bytes), v.bare
	if text == "" {
		text = "-"
	}
	if bare == v.dump {
		bare = "="
	}
	return strings.Join([]string{v.name, v.variant, text, v.dump, bare}, "\t")
}

func parseVector(line string) (vector, error) {
	columns := strings.Split(line, "\t")
	if len(columns) != 5 {
		return vector{}, fmt.Errorf("%d columns in %.80q", len(columns), line)
	}
	bytes, err := hex.DecodeString(strings.TrimPrefix(columns[2], "-"))
	if err != nil {
		return vector{}, fmt.Errorf("%s %s: %w", columns[0], columns[1], err)
	}
	bare := columns[4]
	if bare == "=" {
		bare = columns[3]
	}
	return vector{columns[0], columns[1], bytes, columns[3], bare}, nil
}

func readVectors(name string) ([]vector, error) {
	lines, err := readLines(name)
	if err != nil {
		return nil, err
	}
	vectors := make([]vector, 0, len(lines))
	for _, line := range lines {
		parsed, err := parseVector(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		vectors = append(vectors, parsed)
	}
	return vectors, nil
}

// readLines returns the lines of a golden file without its comments.
func readLines(name string) ([]string, error) {
	file, err := os.Open(goldenPath(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines []string
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if text := scanner.Text(); !strings.HasPrefix(text, "#") {
			lines = append(lines, text)
		}
	}
	return lines, scanner.Err()
}

func writeLines(name, comment string, lines []string) error {
	text := "# " + comment + "\n" + strings.Join(lines, "\n") + "\n"
	return os.WriteFile(goldenPath(name), []byte(text), 0o644)
}
