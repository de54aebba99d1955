"""What models are asked and say while they serve: counted beside the requests, held against what they learnt, told as drift."""
