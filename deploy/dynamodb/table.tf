# The table of `store: dynamodb://TABLE`, and the policy of who runs poller.
variable "table_name" {
  type    = string
  default = "poller"
}

resource "aws_dynamodb_table" "poller" {
  name         = var.table_name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "folder"
  range_key    = "rest"

  attribute {
    name = "folder"
    type = "S"
  }

  attribute {
    name = "rest"
    type = "S"
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Everything that poller asks of the table; ?create=true needs CreateTable beside it.
data "aws_iam_policy_document" "poller" {
  statement {
    actions = [
      "dynamodb:DescribeTable",
      "dynamodb:GetItem",
      "dynamodb:Query",
      "dynamodb:PutItem",
      "dynamodb:DeleteItem",
    ]
    resources = [aws_dynamodb_table.poller.arn]
  }
}

output "store" {
  value = "dynamodb://${aws_dynamodb_table.poller.name}"
}

output "policy" {
  value = data.aws_iam_policy_document.poller.json
}
