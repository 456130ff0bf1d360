#!/bin/sh
# `make -n -B V=1` on standard input, compile_commands.json on standard output.
awk -v dir="$(pwd)" 'BEGIN { print "["; sep="" }
/ -c [^ ]+\.(c|cc) -o / { f=$0; sub(/.* -c /, "", f); sub(/ -o .*/, "", f); c=$0; gsub(/\\/, "\\\\", c); gsub(/"/, "\\\"", c);
  printf "%s{\"directory\":\"%s\",\"file\":\"%s\",\"command\":\"%s\"}", sep, dir, f, c; sep=",\n" }
END { print "\n]" }'
