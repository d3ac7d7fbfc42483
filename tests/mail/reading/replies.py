"""Replies as mail programs write them: what the person said, and how the program quotes.

``said`` has to be all that stays visible; ``below`` are words that have to be in the folded part.
``said`` of None: nothing may be cut, because the answer stands between or under the quotation, or
because there is nothing but a quotation.
"""

# ruff: noqa: E501 - replies as programs write them, one a line
from __future__ import annotations

from typing import NamedTuple


class Reply(NamedTuple):
    name: str
    text: str
    said: str | None
    below: tuple[str, ...] = ()


class HtmlReply(NamedTuple):
    name: str
    html: str
    said: str | None
    below: tuple[str, ...] = ()


ZH_HEADERS = "发件人: 客服 <support@example.com>\n发送时间: 2023年11月15日 14:00\n收件人: 张三 <zs@qq.com>\n主题: 订单问题\n\n您好，旧内容"
EN_HEADERS = "From: Support <support@example.com>\nSent: Wednesday, November 15, 2023 2:00 PM\nTo: Li <li@example.org>\nSubject: Order\n\nOLDTEXT"

TEXTS = (
    # --- QQ, Foxmail -------------------------------------------------------------------------
    Reply("qq-web-zh", "还是没收到\n\n\n------------------ 原始邮件 ------------------\n" + ZH_HEADERS, "还是没收到", ("原始邮件", "旧内容")),
    Reply("qq-web-zh-nbsp", "收到了\n\n\n------------------\u00a0原始邮件\u00a0------------------\n发件人:\u00a0\"客服\"\n旧内容", "收到了", ("旧内容",)),
    Reply("qq-web-en", "thanks\n\n\n------------------ Original ------------------\nFrom:  \"support\"<support@example.com>;\nDate:  Wed, Nov 15, 2023\nOLDTEXT", "thanks", ("OLDTEXT",)),
    Reply("qq-web-en-message", "ok\n\n------------------ Original Message ------------------\nOLDTEXT", "ok", ("OLDTEXT",)),
    Reply("qq-app-zh", "好的，谢谢\n\n---原始邮件---\n发件人: \"客服\"<support@example.com>\n发送时间: 2023年11月15日\n旧内容", "好的，谢谢", ("旧内容",)),
    Reply("qq-app-iphone", "好的\n\n发自我的iPhone\n\n\n------------------ 原始邮件 ------------------\n旧内容", "好的", ("发自我的iPhone", "旧内容")),
    Reply("qq-signature-only", "请尽快处理\n\n来自 QQ邮箱", "请尽快处理", ("来自 QQ邮箱",)),
    Reply("foxmail-zh", "已经付款\n\n\n\n张三\n \n" + ZH_HEADERS.replace(": ", "： "), "已经付款\n\n\n\n张三", ("旧内容",)),
    Reply("foxmail-zh-rule", "已经付款\n\n--------------------------------\n张三\n\n" + ZH_HEADERS, "已经付款\n\n--------------------------------\n张三", ("旧内容",)),
    Reply("foxmail-en", "Paid.\n\n\nli@example.org\n \nFrom: support\nDate: 2023-11-15 14:00\nTo: li\nSubject: Re: Order\nOLDTEXT", "Paid.\n\n\nli@example.org", ("OLDTEXT",)),
    # --- NetEase -----------------------------------------------------------------------------
    Reply("163-web-zh", "什么时候发货？\n\n\n\n\n在 2023-11-15 14:00:00，\"客服\" <support@example.com> 写道：\n\n>您好\n>旧内容\n", "什么时候发货？", ("写道", "旧内容")),
    Reply("163-web-zh-unquoted", "什么时候发货？\n\n\n在 2023-11-15 14:00:00，\"客服\" <support@example.com> 写道：\n\n您好\n旧内容\n", "什么时候发货？", ("旧内容",)),
    Reply("163-web-en", "When?\n\n\nAt 2023-11-15 14:00:00, \"support\" <support@example.com> wrote:\n\n>OLDTEXT", "When?", ("OLDTEXT",)),
    Reply("163-master-zh", "麻烦退款\n\n| |\n张三\n|\n---- 回复的原邮件 ----\n| 发件人 | 客服<support@example.com> |\n| 日期 | 2023年11月15日 14:00 |\n| 收件人 | zs@163.com |\n| 主题 | 订单 |\n旧内容", "麻烦退款\n\n| |\n张三\n|", ("旧内容",)),
    Reply("163-master-en", "refund please\n---- Replied Message ----\n| From | support<support@example.com> |\n| Date | 11/15/2023 14:00 |\nOLDTEXT", "refund please", ("OLDTEXT",)),
    Reply("163-forward", "请看下面\n\n-------- 转发邮件信息 --------\n发件人：\"客服\" <support@example.com>\n发送日期：2023-11-15\n旧内容", None),
    Reply("126-forward-en", "see below\n\n-------- Forwarding messages --------\nFrom: \"support\" <support@example.com>\nOLDTEXT", None),
    Reply("netease-app", "好\n\n发自我的网易邮箱手机智能版\n\n在 2023-11-15 14:00:00，客服 写道：\n旧内容", "好", ("网易", "旧内容")),
    Reply("sina-app", "收到\n\n发自新浪邮箱客户端\n\n-----原始邮件-----\n旧内容", "收到", ("新浪", "旧内容")),
    # --- Outlook -----------------------------------------------------------------------------
    Reply("outlook-zh", "请查收附件\n\n" + ZH_HEADERS, "请查收附件", ("旧内容",)),
    Reply("outlook-zh-rule", "请查收附件\n\n________________________________\n" + ZH_HEADERS, "请查收附件", ("____", "旧内容")),
    Reply("outlook-zh-bold", "请查收附件\n\n*发件人:* 客服 <support@example.com>\n*发送时间:* 2023年11月15日\n*收件人:* 张三\n*主题:* 订单\n旧内容", "请查收附件", ("旧内容",)),
    Reply("outlook-2003-zh", "同意\n\n-----邮件原件-----\n发件人: 客服\n旧内容", "同意", ("旧内容",)),
    Reply("outlook-zh-tw", "請查收\n\n寄件者: 客服 <support@example.com>\n寄件日期: 2023年11月15日\n收件者: 張三\n主旨: 訂單\n\n舊內容", "請查收", ("舊內容",)),
    Reply("outlook-en", "Attached.\n\nRegards\nLi\n\n" + EN_HEADERS, "Attached.\n\nRegards\nLi", ("OLDTEXT",)),
    Reply("outlook-en-rule", "Attached.\n\n________________________________\n" + EN_HEADERS, "Attached.", ("OLDTEXT",)),
    Reply("outlook-en-bold", "Attached.\n\n*From:* Support <support@example.com>\n*Sent:* Wednesday\n*To:* Li\n*Subject:* Order\nOLDTEXT", "Attached.", ("OLDTEXT",)),
    Reply("outlook-2003-en", "Agreed\n\n-----Original Message-----\nFrom: Support\nSent: Wednesday\nOLDTEXT", "Agreed", ("OLDTEXT",)),
    Reply("outlook-ios-en", "Will do\n\nGet Outlook for iOS<https://aka.ms/o0ukef>\n________________________________\n" + EN_HEADERS, "Will do", ("Get Outlook", "OLDTEXT")),
    Reply("outlook-ios-zh", "好的\n\n获取 Outlook for iOS<https://aka.ms/o0ukef>\n________________________________\n" + ZH_HEADERS, "好的", ("获取", "旧内容")),
    Reply("outlook-meeting", "Fine with me\n\n-----Original Appointment-----\nFrom: Support\nOLDTEXT", "Fine with me", ("OLDTEXT",)),
    # --- Gmail -------------------------------------------------------------------------------
    Reply("gmail-en", "Thanks!\n\nOn Wed, Nov 15, 2023 at 2:00 PM Support <support@example.com> wrote:\n\n> OLDTEXT\n> more\n", "Thanks!", ("wrote:", "OLDTEXT")),
    Reply("gmail-en-wrapped", "Thanks!\n\nOn Wed, Nov 15, 2023 at 2:00 PM Customer Support Team of Example <\nsupport@example.com> wrote:\n\n> OLDTEXT\n", "Thanks!", ("On Wed", "OLDTEXT")),
    Reply("gmail-zh", "谢谢\n\n客服 <support@example.com> 于2023年11月15日周三 14:00写道：\n\n> 旧内容\n", "谢谢", ("旧内容",)),
    Reply("gmail-zh-wrapped", "谢谢\n\nExample 客户服务中心 <support@example.com> 于2023年11月15日周三\n14:00写道：\n\n> 旧内容\n", "谢谢", ("旧内容",)),
    Reply("gmail-zh-tw", "謝謝\n\n客服 <support@example.com> 於 2023年11月15日 週三 下午2:00寫道：\n\n> 舊內容\n", "謝謝", ("舊內容",)),
    Reply("gmail-zh-old", "谢谢\n\n2016-08-01 10:00 GMT+08:00 客服 <support@example.com>:\n\n> 旧内容\n", "谢谢", ("旧内容",)),
    Reply("gmail-zh-zai", "谢谢\n\n在 2023年11月15日星期三，客服 <support@example.com> 写道：\n\n> 旧内容\n", "谢谢", ("旧内容",)),
    Reply("gmail-forward-en", "fyi\n\n---------- Forwarded message ---------\nFrom: Support <support@example.com>\nDate: Wed\nOLDTEXT", None),
    Reply("gmail-signature", "Yes please\n\n-- \nLi Lei\nACME Ltd.\n\nOn Wed, Nov 15, 2023 at 2:00 PM Support <support@example.com> wrote:\n> OLDTEXT", "Yes please", ("Li Lei", "OLDTEXT")),
    # --- Apple -------------------------------------------------------------------------------
    Reply("apple-en", "Perfect.\n\n> On 15 Nov 2023, at 14:00, Support <support@example.com> wrote:\n> \n> OLDTEXT\n", "Perfect.", ("OLDTEXT",)),
    Reply("apple-en-plain", "Perfect.\n\nOn Nov 15, 2023, at 2:00 PM, Support <support@example.com> wrote:\n\nOLDTEXT", "Perfect.", ("OLDTEXT",)),
    Reply("apple-zh", "可以\n\n> 在 2023年11月15日，下午2:00，客服 <support@example.com> 写道：\n> \n> 旧内容\n", "可以", ("旧内容",)),
    Reply("apple-zh-old", "可以\n\n在 2023年11月15日，下午2:00，客服 <support@example.com> 写道：\n\n> 旧内容", "可以", ("旧内容",)),
    Reply("apple-zh-tw", "可以\n\n客服 <support@example.com> 於 2023年11月15日 下午2:00 寫道：\n\n> 舊內容", "可以", ("舊內容",)),
    Reply("iphone-en", "On my way\n\nSent from my iPhone\n\n> On Nov 15, 2023, at 2:00 PM, Support <support@example.com> wrote:\n> \n> ﻿OLDTEXT", "On my way", ("Sent from my iPhone", "OLDTEXT")),
    Reply("iphone-zh", "马上到\n\n发自我的 iPhone\n\n> 在 2023年11月15日，14:00，客服 <support@example.com> 写道：\n> \n> 旧内容", "马上到", ("发自我的 iPhone", "旧内容")),
    Reply("iphone-zh-tw", "馬上到\n\n從我的 iPhone 傳送\n\n> 客服 <support@example.com> 於 2023年11月15日 下午2:00 寫道：\n> \n> 舊內容", "馬上到", ("傳送", "舊內容")),
    Reply("apple-forward-en", "look\n\nBegin forwarded message:\n\nFrom: Support <support@example.com>\nSubject: Order\nOLDTEXT", None),
    Reply("apple-forward-zh", "看这个\n\n开始转发的邮件：\n\n发件人: 客服\n主题: 订单\n旧内容", None),
    # --- Thunderbird and others --------------------------------------------------------------
    Reply("thunderbird-en", "Done\n\nOn 15/11/2023 14:00, Support wrote:\n> OLDTEXT\n> more", "Done", ("OLDTEXT",)),
    Reply("thunderbird-zh", "完成\n\n在 2023/11/15 14:00, 客服 写道:\n> 旧内容", "完成", ("旧内容",)),
    Reply("thunderbird-zh-old", "完成\n\n于 2023/11/15 14:00, 客服 写道:\n> 旧内容", "完成", ("旧内容",)),
    Reply("thunderbird-de", "Erledigt\n\nAm 15.11.23 um 14:00 schrieb Support:\n> OLDTEXT", "Erledigt", ("OLDTEXT",)),
    Reply("thunderbird-forward", "fyi\n\n-------- Forwarded Message --------\nSubject: Order\nOLDTEXT", None),
    Reply("thunderbird-forward-zh", "供参考\n\n-------- 转发的邮件 --------\n主题: 订单\n旧内容", None),
    Reply("samsung", "ok\n\n\n\nSent from my Galaxy\n\n\n-------- Original message --------\nFrom: Support\nOLDTEXT", "ok", ("Galaxy", "OLDTEXT")),
    Reply("android-zh", "好\n\n-------- 原始邮件 --------\n发件人：客服\n旧内容", "好", ("旧内容",)),
    Reply("huawei", "收到\n\n发自我的华为手机\n\n-------- 原始邮件 --------\n发件人：客服\n旧内容", "收到", ("华为", "旧内容")),
    Reply("yahoo", "Sure\n\nSent from Yahoo Mail on Android\n\nOn Wed, Nov 15, 2023 at 14:00, Support<support@example.com> wrote:\nOLDTEXT", "Sure", ("Yahoo", "OLDTEXT")),
    Reply("only-marks", "Fine by me\n\n> OLDTEXT\n> more\n", "Fine by me", ("OLDTEXT",)),
    Reply("marks-then-signature", "Fine\n\n> OLDTEXT\n\n-- \nLi\n", "Fine", ("OLDTEXT", "Li")),
    Reply("signature-dashes", "请回电\n\n-- \n张三\n13800138000", "请回电", ("张三", "13800138000")),
    Reply("nested", "第三次问\n\n在 2023-11-16 10:00:00，\"客服\" <s@example.com> 写道：\n\n>正在查\n>在 2023-11-15 14:00:00，\"张三\" <zs@163.com> 写道：\n>>旧内容", "第三次问", ("正在查", "旧内容")),
    Reply("nested-outlook-in-gmail", "again\n\nOn Wed, Nov 15, 2023 at 2:00 PM Support <s@example.com> wrote:\n\n> hello\n> From: Li\n> Sent: Monday\n> OLDTEXT", "again", ("OLDTEXT",)),
    Reply("wrapped-quote", "No.\n\nOn Wed, Nov 15, 2023 at 2:00 PM Support <s@example.com> wrote:\n> this is a very long quoted line which some server has broken at seventy\ncharacters\n> OLDTEXT", "No.", ("characters", "OLDTEXT")),
    Reply("zoho", "ok\n\n---- On Wed, 15 Nov 2023 14:00:00 +0800 support@example.com wrote ----\n\nOLDTEXT", "ok", ("OLDTEXT",)),
    Reply("yandex", "ok\n\n15.11.2023, 14:00, \"Support\" <support@example.com>:\nOLDTEXT", "ok", ("OLDTEXT",)),
    Reply("feishu", "好的\n\n客服 <support@example.com> 在 2023年11月15日 (周三) 14:00 写道：\n旧内容", "好的", ("旧内容",)),
    Reply("wecom", "好的\n\n发件人：客服<support@example.com>\n发件时间：2023年11月15日(周三) 14:00\n收件人：张三<z@example.org>\n主题：订单\n旧内容", "好的", ("旧内容",)),
    Reply("samsung-zh", "好\n\n-------- 原始信息 --------\n发件人：客服\n旧内容", "好", ("旧内容",)),
    Reply("outlook-ja", "了解しました\n\n差出人: Support <s@example.com>\n送信日時: 2023年11月15日 14:00\n宛先: Li\n件名: 注文\n\nOLDTEXT", "了解しました", ("OLDTEXT",)),
    Reply("gmail-ja", "了解しました\n\n2023年11月15日(水) 14:00 Support <s@example.com>:\n\n> OLDTEXT", "了解しました", ("OLDTEXT",)),
    Reply("gmail-ko", "네\n\n2023년 11월 15일 (수) 오후 2:00, Support <s@example.com>님이 작성:\n\n> OLDTEXT", "네", ("OLDTEXT",)),
    Reply("gmail-es", "Gracias\n\nEl mié, 15 nov 2023 a las 14:00, Support (<s@example.com>) escribió:\n\n> OLDTEXT", "Gracias", ("OLDTEXT",)),
    Reply("qq-title-alone", "好的\n\n原始邮件\n\n发件人：客服<support@example.com>\n发件时间：2023年11月15日 14:00\n收件人：张三\n旧内容", "好的", ("原始邮件", "旧内容")),
    Reply("aliyun", "好的\n\n------------------------------------------------------------------\n发件人：客服<support@example.com>\n发送时间：2023年11月15日(星期三) 14:00\n收件人：张三\n主　题：订单\n\n旧内容", "好的", ("----", "旧内容")),
    # --- nothing may be cut ------------------------------------------------------------------
    Reply("apple-forward-marked", "see below\n\n> Begin forwarded message:\n> \n> From: Shop <shop@example.com>\n> Subject: Order\n> \n> cancelled", None),
    Reply("a-parcel", "您好，帮我寄个快递：\n寄件人：张三 13800138000 上海市\n收件人：李四 13900139000 北京市\n物品：手机一部，请今天上门取件", None),
    Reply("a-parcel-by-lines", "你好\n\n发件人：张三\n电话：138\n时间：今天下午\n\n收件人：李四\n地址：北京\n请尽快发货", None),
    Reply("a-journey", "Please quote a flight:\nFrom: Shanghai\nTo: Beijing\nDate: 12 May\nPassengers: 2, one child", None),
    Reply("wrote-it-myself-zh", "您好\n在上一封邮件中我已经写道：\n订单号是123456，请退款。", None),
    Reply("wrote-it-myself-dated", "您好\n在2023年11月15日的邮件里我写道：\n订单号是123456，请退款。", None),
    Reply("wrote-it-myself-en", "Hello,\nOn the order form I wrote:\nplease deliver after 6 pm. Nobody did.", None),
    Reply("somebody-published", "您好\n在你们网站的评论区有人发表\n说这个产品有毒，是真的吗？", None),
    Reply("sent-by-a-carrier", "Hi,\nthe parcel is yours.\nSent with DHL yesterday", None),
    Reply("sent-by-a-carrier-zh", "您好\n由顺丰快递发送", None),
    Reply("bottom-posting-en", "On Wed, Nov 15, 2023 at 2:00 PM Support <s@example.com> wrote:\n> OLDTEXT\n\nMy answer is below.", None),
    Reply("bottom-posting-greeting", "Hello,\n\nOn Wed, Nov 15, 2023 at 2:00 PM Support <s@example.com> wrote:\n> which colour?\n\nThe red one.", None),
    Reply("bottom-posting-zh", "在 2023-11-15 14:00:00，\"客服\" <s@example.com> 写道：\n>您要哪种颜色？\n\n红色", None),
    Reply("inline-en", "Hi, see inline:\n\nOn Wed, Nov 15, 2023 at 2:00 PM Support <s@example.com> wrote:\n> which colour?\nred\n> which size?\nlarge\n> regards", None),
    Reply("inline-zh", "> 您要哪种颜色？\n红色\n> 什么尺寸？\n大号", None),
    Reply("marks-on-top", "> which colour?\n\nred", None),
    Reply("only-quotation", "------------------ 原始邮件 ------------------\n" + ZH_HEADERS, None),
    Reply("forward-without-word", "---------- Forwarded message ---------\nFrom: a\nDate: b\nSubject: c\n\ncontent", None),
    Reply("plain-question", "请问订单 20231115 什么时候发货？\n我在上周写道：要蓝色。", None),
    Reply("on-in-a-sentence", "On Monday I called and your colleague wrote nothing down.\nPlease call back.", None),
    Reply("a-form", "姓名：张三\n主题：退货\n收件人：李四\n请处理", None),
    Reply("rules-in-text", "第一点\n----------\n第二点\n==========\n第三点", None),
    Reply("markdown-mark", "> 1 year of use, and it broke.\nWhat now?", None),
    Reply("only-signature", "发自我的 iPhone", None),
    Reply("from-in-a-sentence", "From: what I can see, this is broken.\nTo me it looks like the cable.", None),
)  # fmt: skip

HTML = (
    HtmlReply("gmail", '<div dir="ltr">谢谢</div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">客服 &lt;support@example.com&gt; 于2023年11月15日周三 14:00写道：<br></div><blockquote class="gmail_quote" style="margin:0">旧内容</blockquote></div>', "谢谢", ("旧内容", "写道")),
    HtmlReply("gmail-forward", '<div>fyi</div><div class="gmail_quote">---------- Forwarded message ---------<br>From: a<br>OLDTEXT</div>', None),
    HtmlReply("apple", '<html><body>可以<br><div><br><blockquote type="cite"><div>在 2023年11月15日，下午2:00，客服 &lt;s@example.com&gt; 写道：</div><br><div>旧内容</div></blockquote></div></body></html>', "可以", ("旧内容",)),
    HtmlReply("apple-attribution-outside", '<div>ok</div><div>On Nov 15, 2023, at 2:00 PM, Support &lt;s@example.com&gt; wrote:</div><blockquote type="cite">OLDTEXT</blockquote>', "ok", ("OLDTEXT", "wrote")),
    HtmlReply("thunderbird", '<p>Done</p><div class="moz-cite-prefix">On 15/11/2023 14:00, Support wrote:<br></div><blockquote type="cite" cite="mid:x">OLDTEXT</blockquote>', "Done", ("OLDTEXT",)),
    HtmlReply("outlook-web-zh", '<div>请处理</div><div id="appendonsend"></div><hr style="display:inline-block;width:98%"><div id="divRplyFwdMsg" dir="ltr"><b>发件人:</b> 客服<br><b>发送时间:</b> 2023年<br><b>收件人:</b> 张三<br><b>主题:</b> 订单</div><div>旧内容</div>', "请处理", ("旧内容", "发件人")),
    HtmlReply("outlook-desktop-en", '<div class="WordSection1"><p class="MsoNormal">Attached.</p><div><div style="border:none;border-top:solid #E1E1E1 1.0pt"><p class="MsoNormal"><b>From:</b> Support<br><b>Sent:</b> Wednesday<br><b>To:</b> Li<br><b>Subject:</b> Order</p></div></div><p>OLDTEXT</p></div>', "Attached.", ("OLDTEXT",)),
    HtmlReply("outlook-hr-table", "<p>同意</p><hr><table><tr><td><b>发件人：</b></td><td>客服</td></tr><tr><td><b>日期：</b></td><td>2023年</td></tr><tr><td><b>主题：</b></td><td>订单</td></tr></table><p>旧内容</p>", "同意", ("旧内容",)),
    HtmlReply("qq", '<div>还是没收到</div><div><includetail><div>&nbsp;</div><div style="font:Verdana">------------------&nbsp;原始邮件&nbsp;------------------</div><div>发件人: 客服</div><div>旧内容</div></includetail></div>', "还是没收到", ("旧内容",)),
    HtmlReply("foxmail", '<div>已付款</div><div><br></div><blockquote style="margin:0"><div>&nbsp;</div><div style="border-top:solid #B5C4DF 1.0pt"><div><b>发件人：</b>客服</div><div><b>发送时间：</b>2023-11-15</div><div><b>收件人：</b>张三</div><div><b>主题：</b>订单</div></div><div>旧内容</div></blockquote>', "已付款", ("旧内容",)),
    HtmlReply("163-web", '<div>什么时候发货？</div><br><div id="isReplyContent"></div><div id="isReplyContent" style="margin:0"><p>在 2023-11-15 14:00:00，"客服" 写道：</p><blockquote id="isReplyContent">旧内容</blockquote></div>', "什么时候发货？", ("旧内容",)),
    HtmlReply("163-master", '<div>麻烦退款</div><div class="ntes-mailmaster-quote"><div>---- 回复的原邮件 ----</div><table><tr><td>发件人</td><td>客服</td></tr></table><div>旧内容</div></div>', "麻烦退款", ("旧内容",)),
    HtmlReply("yahoo", '<div>Sure</div><div class="yahoo_quoted"><div>On Wed, Support wrote:</div><div>OLDTEXT</div></div>', "Sure", ("OLDTEXT",)),
    HtmlReply("iphone-signature", '<div>马上到<br><br>发自我的 iPhone</div><div><br><blockquote type="cite">旧内容</blockquote></div>', "马上到", ("发自我的 iPhone", "旧内容")),
    HtmlReply("signature-below", '<div>ok</div><blockquote type="cite">OLDTEXT</blockquote><div>Sent from my iPad</div>', "ok", ("OLDTEXT", "iPad")),
    HtmlReply("inline", '<blockquote type="cite">which colour?</blockquote><div>red</div><blockquote type="cite">which size?</blockquote><div>large</div>', None),
    HtmlReply("inline-in-gmail", '<div dir="ltr">See below.<br><div class="gmail_quote"><div class="gmail_attr">On Wed, Nov 15, 2023 at 2:00 PM Support &lt;s@example.com&gt; wrote:<br></div><blockquote class="gmail_quote">which colour?</blockquote><div>red</div><blockquote class="gmail_quote">which size?</blockquote><div>large</div></div></div>', None),
    HtmlReply("bottom-in-gmail", '<div>Hello</div><div class="gmail_quote"><div class="gmail_attr">On Wed, Nov 15, 2023 at 2:00 PM Support &lt;s@example.com&gt; wrote:<br></div><blockquote class="gmail_quote">which colour?<blockquote class="gmail_quote">older</blockquote></blockquote><div>the red one</div></div>', None),
    HtmlReply("gmail-nested", '<div>thanks</div><div class="gmail_quote"><div class="gmail_attr">On Wed, Support wrote:</div><blockquote class="gmail_quote"><div>NEWER</div><div class="gmail_quote"><div class="gmail_attr">On Tue, Li wrote:</div><blockquote class="gmail_quote">OLDTEXT</blockquote></div><div>REGARDS</div></blockquote></div>', "thanks", ("NEWER", "OLDTEXT", "REGARDS")),
    HtmlReply("apple-forward", '<div>see below</div><blockquote type="cite"><div>Begin forwarded message:</div><div><b>From:</b> Shop</div><div>cancelled</div></blockquote>', None),
    HtmlReply("feishu", '<div>好的</div><div class="history-quote-wrapper"><div><a href="mailto:s@example.com">客服&lt;s@example.com&gt;</a> 在 2023年11月15日 (周三) 14:00 写道：</div><blockquote>旧内容</blockquote></div>', "好的", ("旧内容",)),
    HtmlReply("bottom", '<div class="gmail_quote">On Wed, Support wrote:<blockquote class="gmail_quote">which colour?</blockquote></div><div>the red one</div>', None),
    HtmlReply("all-quoted", '<blockquote type="cite">only this</blockquote>', None),
)  # fmt: skip
