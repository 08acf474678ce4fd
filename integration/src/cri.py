"""One call of a CRI service: cri.py SOCKET METHOD JSON [FIELD...]

A message is an object from field numbers to values; a list is a repeated field. Prints the fields of
the answer, or of the message in it to which the FIELDs lead, in the same form.
"""
import json
import sys

import grpc


def varint(number):
    out = bytearray()
    number &= (1 << 64) - 1
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(message):
    out = b""
    for field, values in message.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                out += varint(int(field) << 3) + varint(value)
                continue
            data = encode(value) if isinstance(value, dict) else value.encode()
            out += varint(int(field) << 3 | 2) + varint(len(data)) + data
    return out


def decode(data):
    place, message = 0, {}

    def number():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, place = data[place:place + value], place + value
        message[key >> 3] = value
    return message


socket, method, request, *path = sys.argv[1:]
channel = grpc.insecure_channel("unix://" + socket)
try:
    answer = channel.unary_unary("/runtime.v1.RuntimeService/" + method)(
        encode(json.loads(request)), timeout=40)
except grpc.RpcError as error:
    sys.exit(f"{method}: {error.details()}")
answer = decode(answer)
for field in path:
    answer = decode(answer[int(field)])
print(json.dumps(answer, default=lambda data: data.decode(errors="replace")))
