#!/bin/sh
# Speech by curl: the sound is written while it is made. A player takes its place: OUT=- … | mpv -
#
#   sh speech_curl.sh "What is to be said." [URL]      # OUT=speech.mp3, FORMAT=mp3, MAXPIPE_KEY where keys are needed
set -eu
text=${1:?what is to be said}
url=${2:-${MAXPIPE_URL:-http://127.0.0.1:8000}}
format=${FORMAT:-mp3}
quoted=$(printf %s "$text" | sed 's/\\/\\\\/g; s/"/\\"/g' | tr '\n\t\r' '   ')

curl --silent --show-error --fail-with-body --no-buffer "$url/v1/audio/speech" \
    --header "content-type: application/json" \
    --header "authorization: Bearer ${MAXPIPE_KEY:-none}" \
    --data "{\"model\": \"tts-1\", \"voice\": \"alloy\", \"input\": \"$quoted\", \"response_format\": \"$format\"}" \
    --output "${OUT:-speech.$format}"
