#!/bin/sh
# Text by curl: each token is an event, printed while it is made.
#
#   sh text_curl.sh "Once upon a time" [URL]      # MAX_NEW_TOKENS=64, MAXPIPE_KEY where keys are needed
set -eu
text=${1:?how the text begins}
url=${2:-${MAXPIPE_URL:-http://127.0.0.1:8000}}
quoted=$(printf %s "$text" | sed 's/\\/\\\\/g; s/"/\\"/g' | tr '\n\t\r' '   ')

curl --silent --show-error --fail-with-body --no-buffer "$url/generate_stream" \
    --header "content-type: application/json" \
    --header "authorization: Bearer ${MAXPIPE_KEY:-none}" \
    --data "{\"inputs\": \"$quoted\", \"parameters\": {\"max_new_tokens\": ${MAX_NEW_TOKENS:-64}}}"
