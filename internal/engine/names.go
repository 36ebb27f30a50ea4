package engine

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/kistdev/kist/internal/fault"
)

const nameRule = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

var (
	validName   = regexp.MustCompile("^" + nameRule + "+$")
	wrongInName = regexp.MustCompile("[^a-zA-Z0-9_.-]+")
)

// checkName returns the name without its leading slash.
func checkName(name string) (string, error) {
	bare := strings.TrimPrefix(name, "/")
	if !validName.MatchString(bare) {
		return "", badName(name)
	}
	return bare, nil
}

// badName says what is wrong with a container's name.
func badName(name string) error {
	f := &fault.Error{
		Code: "bad-name", Words: fmt.Sprintf("Invalid container name (%s), only %s are allowed", name, nameRule),
		What:  fmt.Sprintf("%q is no container's name: letters, digits and, not at its beginning, _ . - are allowed", name),
		Class: errdefs.ErrInvalidArgument,
	}
	bare := strings.TrimPrefix(name, "/")
	if len(bare) < 2 {
		f.What = fmt.Sprintf("%q is no container's name: it has two characters at least", name)
		return f
	}
	better := strings.TrimLeft(wrongInName.ReplaceAllString(bare, "-"), "_.-")
	if validName.MatchString(better) && len(better) < 64 {
		f.Try = "a name like " + better
	}
	return f
}

// newID makes a random id: 64 hexadecimal digits, never only decimal ones in the part that is shown, which other programs could take
// for a number. The first one is decimal, so that no name that begins with a letter ("db", "c17", "cafe") is ever the beginning of an
// id: otherwise the second one of two "rm -f db" could remove another container.
func newID() string {
	for {
		var raw [32]byte
		_, _ = rand.Read(raw[:]) // Never fails, see its documentation.
		id := hex.EncodeToString(raw[:])
		if _, err := strconv.ParseInt(id[:12], 10, 64); err != nil && id[0] <= '9' {
			return id
		}
	}
}

// Words for the names of containers that were given none: what one finds in and around a chest on a journey.
var (
	adjectives = strings.Fields(`able amber ample ancient apt ardent azure bold bonny brave breezy bright brisk calm candid
		careful cheery chosen civil clever cosy crisp curious daring deft diligent dry dusky eager early easy elated fabled
		faithful fancy fair festive fleet fond frank free fresh frosty gallant gentle gilded glad gleaming golden good graceful
		grand handy happy hardy hearty honest humble jaunty jolly keen kind lasting light lively loyal lucid lucky mellow merry
		mighty mild modest neat nimble noble oaken open patient placid plucky polished proud pure quaint quick quiet ready
		roaming robust rosy rustic sandy serene sharp shiny silent silver simple sleek smart snug sober solid sound spry stable
		steady stout sturdy sunny sure swift tidy trim true trusty upbeat valiant vivid warm wary willing wise witty woven
		young zesty`)
	travellers = strings.Fields(`amundsen barents baret batuta bell bering bingham bird blanchard bly bougainville bowditch burton cabot
		cartier champlain chichester clark clapperton coleman cook cousteau dampier davidneel doudart drake earhart earle ehrlich
		emin erikson everest fawcett fiennes forster franklin frobisher gama grenfell halley hanno hedin henson heyerdahl
		humboldt hudson ibnjubayr johnson kingsley knox laperouse leichhardt lewis lindbergh livingstone mackenzie magellan
		markham marsden mawson meares mercator messner montagu nansen nobile norgay orellana ortelius palmer park peary
		pfeiffer piccard pigafetta polo pytheas quiros rasmussen ride ross rubruck sacagawea saavedra scoresby scott shackleton
		slocum speke stark stein strabo sverdrup tasman thesiger tereshkova torres vancouver verne vespucci wallace weddell
		wilkins workman xuanzang younghusband zhenghe`)
)

// newName makes up a free name. After a few collisions a number is added.
func newName(taken func(string) bool) string {
	for i := 0; ; i++ {
		name := adjectives[mathrand.IntN(len(adjectives))] + "_" + travellers[mathrand.IntN(len(travellers))]
		if i >= 4 {
			name += strconv.Itoa(mathrand.IntN(10 * i * i))
		}
		if !taken(name) {
			return name
		}
	}
}
